"""Essays and their threads: what is posted, where it was published before, and who may show it."""
