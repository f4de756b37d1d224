# Everything runs in a virtual environment of its own. Another Python: make demo PYTHON=python3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint format docs install requirements clean

demo: $(INSTALLED)  ## train on synthetic scenes, evaluate, colorize; color photographs: runs/demo/report.html
	$(BIN)/python -m jaxcolor.demo --config configs/demo.py --workdir runs/demo

# loadfile keeps the tests of a file, and with them what they compile and share, in one process.
test: $(INSTALLED)  ## the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(INSTALLED)  ## all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)  ## style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)  ## fix style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## the documentation as a site: build/site/index.html
	$(BIN)/python -m sphinx -b html --fail-on-warning --keep-going docs build/site

$(VENV)/.docs: requirements-docs.txt $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	touch $@

install: $(INSTALLED)

$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxcolor needs Python 3.11 or newer, \
	this is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

requirements:  ## resolve the pins anew (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --extra dev pyproject.toml -o requirements.txt
	uv pip compile --universal --generate-hashes --no-emit-index-url --extra prepare -c requirements.txt pyproject.toml \
		-o requirements-prepare.txt
	uv pip compile --universal --generate-hashes --no-emit-index-url --extra docs -c requirements.txt pyproject.toml \
		-o requirements-docs.txt
	uv pip compile --universal --generate-hashes --no-emit-index-url --no-deps --python-version 3.11 requirements-ci.in \
		-o requirements-ci.txt

clean:  ## remove what the targets above made
	rm -rf $(VENV) runs/demo build *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
