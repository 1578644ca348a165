PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test check docs bench soak slow install clean

demo: $(VENV)/.done
	$(BIN)/engine demo --export out/demo

test: $(VENV)/.done
	$(BIN)/python -m pytest -n auto

slow: $(VENV)/.done
	$(BIN)/python -m pytest -n auto -m slow

check: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "out/site/index.html"

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
