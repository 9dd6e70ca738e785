"""Text: the door for readers' words, the one way to HTML, and the languages that the site speaks."""
