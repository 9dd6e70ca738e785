"""Pages: what everybody is sent, printed when it changes and kept on the shelf."""
