"""What items look like: one form of items per file, and what several of them consist of."""
