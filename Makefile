# Two commands do everything on a machine with Python 3.11: `make demo` and `make test`.
PYTHON ?= python3
LIVES ?= 4000
SERVE ?= 1
BIN := .venv/bin

.PHONY: demo test lint format constraints clean
.DELETE_ON_ERROR:

demo: .venv/ready  ## the main job, end to end, on a simulated hospital
	$(BIN)/python examples/demo/run.py --lives $(LIVES) $(if $(filter 0,$(SERVE)),--no-serve,)

test: .venv/ready lint  ## everything that proves it
	OMP_NUM_THREADS=1 $(BIN)/pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv: .venv/ready

.venv/ready: pyproject.toml constraints.txt web/package.json web/package-lock.json
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python web/build.py
	touch $@

constraints: .venv/ready
	(echo "# Every package at the version that the tests passed with. Renew: make constraints"; \
	 $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//') > constraints.txt

clean:
	rm -rf .venv demo node_modules web/node_modules src/lifechart/serve/static/vendor
