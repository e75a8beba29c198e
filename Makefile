# make evaluate: set up .venv, draw the mini Kinetics once, then both shipped models: accuracy versus GFLOPs
# make demo:     set up .venv, then the shipped model on a drawn clip: what it says and what it reads
# make test:     lint, types, tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: evaluate demo test lint clean

evaluate: $(VENV)/.installed
	$(BIN)/video-ats make-mini-kinetics --output outputs/mini_kinetics
	$(BIN)/video-ats evaluate --config configs/mini/timesformer_mini.yaml
	$(BIN)/video-ats evaluate --config configs/mini/xvit_mini.yaml

demo: $(VENV)/.installed
	$(BIN)/video-ats demo

test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The stamps are written last, so that an interrupted installation is taken up again and a finished one is not.
$(VENV)/.installed: setup.cfg setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "video-ats needs Python 3.10 or later: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) outputs build *.egg-info .mypy_cache .ruff_cache .pytest_cache
