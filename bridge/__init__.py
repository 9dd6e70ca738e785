"""The site: who commented on what, and the pages and calls by which readers and moderators reach it."""
