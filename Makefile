PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test check bench soak slow clean

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

bench: $(VENV)/.done
	$(BIN)/python -m benchmarks

soak: $(VENV)/.done
	$(BIN)/python -m benchmarks.soak

$(VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) out
