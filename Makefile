# make quickstart   set up (once) and train a small model by RL, end to end
# make test         set up (once) and run all tests; `make test-unit` for the quick ones
# make test-long    every architecture of docs/models.md against transformers and vLLM, and long runs; half an hour
# make check        ruff, mypy --strict, import-linter, docs
# make release-check   build every distribution from a clone, install it into empty environments, test it there
# make bench        every benchmark of benchmarks/, one after the other

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEEPSEEK := plugins/models/rlx-plugin-deepseek
BENCHMARKS := startup controller checkpoint reward_pool math_rewards logprob_memory policy_step overlap weight_sync against_trl sft_against_trl

.PHONY: setup quickstart test test-unit test-long check release-check bench clean
.DEFAULT_GOAL := quickstart

setup: $(READY)

# --no-deps: the list is complete, and leaves three packages out on purpose (requirements/cpu.txt says which and why).
$(READY): requirements/cpu.txt pyproject.toml $(DEEPSEEK)/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements/cpu.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable $(DEEPSEEK)
	touch $(READY)

quickstart: $(READY)
	$(BIN)/python examples/quickstart/quickstart.py

test: test-unit
	$(BIN)/python -m pytest tests/integration tests/e2e -m "not long" --quiet --durations=10 --numprocesses 2 --dist loadfile

test-unit: $(READY)
	$(BIN)/python -m pytest tests/unit $(DEEPSEEK)/tests --quiet --numprocesses 2

test-long: $(READY)
	$(BIN)/python -m pytest tests/long --quiet
	$(BIN)/python -m pytest tests/e2e -m long --quiet

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/build.py --check

release-check: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements/release.txt
	$(BIN)/python -m pytest tests/release --quiet

bench: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements/bench.txt
	for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
