"""Thin HTTP: each view finds out who is asking, makes one call, and chooses the page."""
