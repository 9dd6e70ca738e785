"""The desk: what waits for a person, and what a person does about it."""
