# make setup | make demo | make test   each sets up what is missing, once

.PHONY: setup demo test lint benchmarks clean

BIN := .venv/bin

setup:
	@tools/setup.sh

demo: setup
	$(BIN)/mdls-cosim demo --out demo-out

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

benchmarks: setup
	for name in $(filter-out benchmarks/fit_surrogates.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$name || exit 1; done

clean:
	rm -rf .venv demo-out .pytest_cache .hypothesis .ruff_cache .import_linter_cache
