"""Background work and the `emeritus` command: the only code that holds the model's key or knows its SDK."""
