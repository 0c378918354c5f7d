"""One suite per file; `make bench` runs them all and writes `benchmarks/results/`."""
