# make demo    from nothing to a checked champion on this machine
# make check   format, lint, types, fast tests
# make test    everything that CI runs
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo check test format

demo:
	$(PYTHON) demo/run.py

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: $(VENV)/.ready
	$(BIN)/ruff format --check src tests bench demo
	$(BIN)/ruff check src tests bench demo
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto -m "not slow and not engine" -x

test: $(VENV)/.ready
	$(BIN)/ruff format --check src tests bench demo
	$(BIN)/ruff check src tests bench demo
	$(BIN)/mypy
	$(BIN)/pao tools install vllm
	$(BIN)/pao tools install sglang
	$(BIN)/pao tools install ptq
	$(BIN)/pao tools install eval
	$(BIN)/python -m pytest -q -n auto -m "not slow and not engine" --durations=15
	$(BIN)/python -m pytest -q -m "slow or engine" --durations=25

format: $(VENV)/.ready
	$(BIN)/ruff format src tests bench demo
	$(BIN)/ruff check --fix src tests bench demo
