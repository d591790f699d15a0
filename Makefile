# What a newcomer and CI call. PYTHON chooses the interpreter of the virtual environment.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO ?= runs/demo
# More flags for the demo's training or for pytest, e.g. FLAGS='--epochs 1' or FLAGS='-k cell'.
FLAGS ?=

.PHONY: install demo test lint readme bench lock clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[dev]'
	touch $@

# Trains on generated clips for a few minutes, scores the model on clips that it never saw, and
# names the pictures.
demo: install
	rm -rf $(DEMO)
	$(RUN) train.py --out $(DEMO) $(FLAGS)
	$(RUN) eval.py $(DEMO)

test: install
	$(RUN) -m pytest $(FLAGS)

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Runs every command of the README, at a tiny size.
readme: install
	$(RUN) tests/run_readme.py

# Times everything on this machine's CPU, beside what people could use instead: some 40 minutes.
bench: install
	$(RUN) -m pip install --quiet --editable '.[bench]'
	$(RUN) benchmarks/step_time.py
	$(RUN) benchmarks/rollout.py
	$(RUN) benchmarks/memory.py
	$(RUN) benchmarks/loader.py

# Writes down the version and the digests of every package, for Python 3.11 and newer; needs uv.
lock:
	uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --extra dev --extra arrays --extra video \
	  pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
