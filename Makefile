# make test: from a clean checkout to a green suite. make check: the same checks in an environment that exists.
# make avx2: the tests that depend on the processor, on one with AVX2 and no more, whatever this one has.
# make quick: the tests that take no time, without lint and types. make docs: the documentation as a site, in site/.
# make demo: the environment, then `gcf demo` in the folder gcf-demo.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: test check quick avx2 lint types docs demo clean

test: $(VENV)/.installed
	$(MAKE) check

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

quick: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

avx2: $(VENV)/.installed
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/python -m pytest -n 2 --dist loadfile -m processor

types:
	$(BIN)/python scripts/check_types.py

lint:
	$(BIN)/ruff check gcf tests benchmarks scripts
	$(BIN)/ruff format --check gcf tests benchmarks scripts

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

demo: $(VENV)/.installed
	$(BIN)/gcf demo gcf-demo

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .ruff_cache
