"""Filters: whether a generated sample is good enough, one question per file."""
