"""The face on the command line: `iu`. One file per group of commands, all on the same frame."""
