"""People: those who sign in."""
