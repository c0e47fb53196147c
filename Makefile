# make test: from a clean checkout to a green suite. make check: the same checks in an environment that exists.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: test check lint clean

test: $(VENV)/.installed
	$(MAKE) check

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint:
	$(BIN)/ruff check gcf tests benchmarks
	$(BIN)/ruff format --check gcf tests benchmarks

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
