# Everything runs from here, in an environment of its own that the first target to need it sets up.
#
#   make demo       the whole library on photographs that are already installed; writes demo-output/
#   make test       the tests but the slow ones
#   make test-long  all tests
#   make check      linter, formatter, type checkers, and the repository's own rules
#   make bench      every benchmark
#   make format     put the code into shape
#   make clean      remove what was built and cached; the environment stays

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# Two processes of tests, each with one thread of its own: more threads than cores only wait for each other.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q
TEST_PROCESSES ?= 2
# Every suite; the files with an underscore and the harness are what the suites share.
SUITES = $(filter-out harness,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py)))

.DELETE_ON_ERROR:
.PHONY: setup demo test test-long check bench format clean

setup: $(STAMP)

# One install, and again only when pyproject.toml changed.
$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "synthloader needs Python 3.10 or newer, and $(PYTHON) is not. Name another: make PYTHON=python3.12"; exit 1; }
	@if test -x $(BIN)/python; then echo "Bringing .venv up to pyproject.toml."; \
	    else echo "Setting up .venv: about two minutes and 6.5 GB, once."; $(PYTHON) -m venv .venv; fi
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev,demo]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/synthloader demo --out demo-output

test: $(STAMP)
	@$(PYTEST) -n $(TEST_PROCESSES) --dist loadfile -m "not slow"

test-long: $(STAMP)
	@$(PYTEST) -n $(TEST_PROCESSES) --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p synthloader
	$(BIN)/pyright
	@$(PYTEST) tests/repo

bench: $(STAMP)
	@set -e; for suite in $(SUITES); do echo "== $$suite"; $(BIN)/python -m benchmarks.$$suite; done

format: $(STAMP)
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

clean:
	rm -rf build dist *.egg-info demo-output htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
