"""What was recorded once and must not change unnoticed. `python -m tests.golden.regenerate` records it anew."""
