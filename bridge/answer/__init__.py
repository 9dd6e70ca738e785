"""Answers: from the wish for one to the words or the silence that come of it, with every call on record."""
