PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test quick cov slow mutants fmt check versions facts docs notebooks install bench soak clean

demo: $(VENV)/.done
	$(BIN)/engine demo --export out/demo

# The whole suite, as CI runs it.
test: $(VENV)/.done
	$(BIN)/python -m pytest -n auto --dist worksteal

# The kernels, the store and the contracts: under a minute, for use while editing.
quick: $(VENV)/.done
	HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -q -n auto $(QUICK)

QUICK := tests/test_architecture.py tests/test_grid.py tests/test_grid_strides.py tests/test_keys.py tests/test_interval.py tests/test_schema.py tests/store tests/derive tests/quality tests/audit/test_rules.py

# The whole suite with coverage of engine/ by line; fails below the floor in pyproject.toml.
cov: $(VENV)/.done
	$(BIN)/python -m pytest -q -n auto --cov=engine --cov-report=term:skip-covered --cov-report=html:out/coverage

# What takes minutes: all calendars, all rungs, large random samples.
slow: $(VENV)/.done
	$(BIN)/python -m pytest -n auto -m slow

# Changes of the kernels in one place at a time that no test notices; MODULE=grid for one of them, SIZE=400 for all mutants.
mutants: $(VENV)/.done
	$(BIN)/python -m tests.mutants.run $(MODULE) $(if $(SIZE),--per-module $(SIZE))

fmt: $(VENV)/.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture

# The calendars' tests with the lowest and the newest versions allowed of the libraries they stand on; WHICH=lowest for one.
versions:
	PYTHON=$(PYTHON) .ci/versions $(WHICH)

# Per calendar: sessions compared with its answer file, equal, corrected by us, and the same of two other databases.
facts: $(VENV)/.done
	$(BIN)/python -m tests.calendars.compare_facts

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "out/site/index.html"

# Runs every notebook and stores its outputs; look at the difference before you commit it.
notebooks: $(VENV)/.done
	for path in notebooks/*.ipynb; do $(BIN)/python -m tests.notebooks.kernel $$path $$path || exit 1; done

# The wheel and the sdist, each in an empty environment without extras; WHAT=wheel for that alone.
install: $(VENV)/.done
	$(BIN)/python -m pytest -q -m slow tests/test_install.py $(if $(WHAT),-k $(WHAT))

bench: $(VENV)/.done
	$(BIN)/python -m benchmarks

soak: $(VENV)/.done
	$(BIN)/python -m tests.soak

$(VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) out
