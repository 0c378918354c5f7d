"""Data sets on disk, as recipes and the command line read them: one format per file."""
