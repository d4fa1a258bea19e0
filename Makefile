# Two commands do everything on a machine with Python 3.11 and pip: make demo, make test.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
OUT ?= runs/lp30
KERNEL := $(wildcard phyff/native/*.* phyff/native/src/*)

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: .venv/installed
	$(BIN)/phyff run recipes/lp30.yaml --preset quick --out $(OUT)
	@echo "Open $(OUT)/report.html in a browser."

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadscope --durations=12

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt $(KERNEL)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet -e ".[test]" -c constraints.txt
	@command -v $(CXX) >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { echo "Installing g++ for the native kernel"; apt-get update -qq && apt-get install -y -qq g++; } || true
	@if command -v $(CXX) >/dev/null && $(BIN)/python -m pip install --quiet ./phyff/native -c constraints.txt; then \
	  echo "Pair forces: native kernel"; \
	else \
	  echo "Pair forces: stock OpenMM, slower on CPUs; the native kernel needs a C++ compiler (g++)."; \
	fi
	touch $@

clean:
	rm -rf .venv
