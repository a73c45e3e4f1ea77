# make demo    from nothing to a checked champion on this machine
# make check   format, lint, types, fast tests
# make test    everything that CI runs
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
TOOLS := vllm sglang ptq eval
FAST := not slow and not engine

.PHONY: demo check test format static fast tools $(TOOLS:%=tool-%)

demo:
	$(PYTHON) demo/run.py

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: static
	$(BIN)/python -m pytest -q -n auto -m "$(FAST)" -x

# What fails soonest comes first. The tools are downloaded while the fast tests run, which need none of them; the tests
# of real engines come after both, two files at a time: half of an engine's start is one thread that imports.
test: static
	$(MAKE) --no-print-directory -j2 --output-sync=line fast tools
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow or engine" --durations=25

static: $(VENV)/.ready
	$(BIN)/ruff format --check src tests bench demo
	$(BIN)/ruff check src tests bench demo
	$(BIN)/mypy

fast: $(VENV)/.ready
	$(BIN)/python -m pytest -q -n auto -m "$(FAST)" --durations=20

tools: $(TOOLS:%=tool-%)

# One after the other: together they would fill the disk twice.
tool-sglang: tool-vllm
tool-ptq: tool-sglang
tool-eval: tool-ptq

$(TOOLS:%=tool-%): tool-%: $(VENV)/.ready
	$(BIN)/pao tools install $*

format: $(VENV)/.ready
	$(BIN)/ruff format src tests bench demo
	$(BIN)/ruff check --fix src tests bench demo
