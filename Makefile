# make test: from a clean checkout to a green suite. make check: the same checks in an environment that exists.
# make demo: the environment, then `gcf demo` in the folder gcf-demo.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: test check lint demo clean

test: $(VENV)/.installed
	$(MAKE) check

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint:
	$(BIN)/ruff check gcf tests benchmarks scripts
	$(BIN)/ruff format --check gcf tests benchmarks scripts

demo: $(VENV)/.installed
	$(BIN)/gcf demo gcf-demo

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
