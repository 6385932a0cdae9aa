# make demo    set up, then track the bundled clip
# make test    set up, then run the test suite
# make fuzz    set up, then read 200 damaged files of each kind (ARGS="--examples 1000 --kinds mp4 --seed 1")
# make lint    set up, then ruff and mypy
# make clean   remove the virtual environment and tool caches; outputs/ stays
#
# Another interpreter:   make demo PYTHON=python3.12
# Without CUDA's 4 GB:   make demo CPU=1   (PyTorch from its own index, on the first call)
# Options for pytest:    make test ARGS="-k queries"; in one process: ARGS="-n 0"

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: help demo test fuzz lint clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

demo: $(READY)
	$(VENV)/bin/python run_tracker.py --video assets/koi.mp4 --queries assets/koi.queries.json --gt assets/koi.tracks.npz --config configs/short.yaml

test: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n logical --maxprocesses 4 $(ARGS)

fuzz: $(STAMP)
	$(VENV)/bin/python tests/fuzz_inputs.py $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

# Installed again only when pyproject.toml is newer than the last finished install.
$(READY): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "make: there is no $(PYTHON) here; install Python 3.11 or newer, or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or newer is needed, but $(PYTHON) is $$("$(PYTHON)" -V 2>&1); install a newer one and name it: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV)
	@echo "setting up $(VENV); the first time downloads PyTorch and takes some minutes"
	$(if $(CPU),$(VENV)/bin/python -m pip install --disable-pip-version-check torch torchvision --index-url https://download.pytorch.org/whl/cpu)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -e .
	@touch $(READY)

# And what tests and the linter need besides.
$(STAMP): $(READY)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
