"""Generators: from a real sample to a generated one, one method per file."""
