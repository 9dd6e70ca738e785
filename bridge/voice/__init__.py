"""Voices: who is asked, in what way, within which budget, and with which words."""
