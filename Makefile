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
	$(BIN)/python -m pytest -n 2

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml constraints.txt $(KERNEL)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet -e ".[test]" -c constraints.txt
ifeq ($(shell command -v $(CXX)),)
	@echo "No C++ compiler ($(CXX)): pair forces run on stock OpenMM, slower on CPUs."
else
	$(BIN)/python -m pip install --quiet ./phyff/native -c constraints.txt || \
	  echo "The native kernel could not be built: pair forces run on stock OpenMM, slower on CPUs."
endif
	touch $@

clean:
	rm -rf .venv
