"""What generators made of generators have in common."""
