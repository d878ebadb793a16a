"""Why the relay does not move: one module per family of causes; `checkup` is the table of contents."""
