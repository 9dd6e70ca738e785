"""Letters: how they come in, what their authors can do with them, and how they leave for good."""
