"""The whole library on photographs that are already installed."""
