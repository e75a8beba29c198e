# make evaluate: set up .venv, then generated videos -> report (random weights: it shows the road, not an accuracy)
# make test:     lint, types, tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: evaluate test lint clean

evaluate: $(VENV)/.installed
	$(BIN)/python tools/make_generated_videos.py --output outputs/generated_videos
	$(BIN)/python tools/evaluate.py --config configs/mini/generated.yaml

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest

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
