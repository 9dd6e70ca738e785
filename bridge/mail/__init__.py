"""Mail: whom the site writes to, of what, and how it goes out once."""
