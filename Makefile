# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo`, `make test`.
# uv is used when it is there; plain venv and pip otherwise.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODEL := .models/all-MiniLM-L6-v2
QUESTION ?= Which river flows through the birthplace of the composer of The Magic Flute?

.PHONY: help demo test lint fmt bench model live clean

help: ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(STAMP) ## Set up, then answer a 3-hop question over examples/corpus
	$(BIN)/hoptrail ask "$(QUESTION)" --docs examples/corpus

test: $(STAMP) ## Set up, then run every test that needs no real model
	$(BIN)/pytest

lint: $(STAMP) ## Style, types, and the arrows between the modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(STAMP) ## Format, and fix what can be fixed by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Wall time against the critical path, and own cost per question
	$(BIN)/python -m benchmarks.speed

model: $(MODEL)/model.onnx ## Real all-MiniLM-L6-v2 weights, for the tests marked `model`
	$(BIN)/pip install --quiet --editable ".[local]"
	$(BIN)/pytest -m model

live: $(STAMP) ## Tests against a real Ollama (`ollama serve`) and Hugging Face (HF_TOKEN)
	$(BIN)/pytest -m live

clean: ## Remove what was made here
	rm -rf $(VENV) .models .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MODEL)/model.onnx: | $(STAMP)
	$(BIN)/python -m benchmarks.export_minilm

$(STAMP): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python '>=3.11' $(VENV) && \
		uv pip install --quiet --python $(BIN)/python --editable . --group dev; \
	else \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hoptrail needs Python 3.11 or newer: make PYTHON=python3.11 ...")' && \
		$(PYTHON) -m venv $(VENV) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1" && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev; \
	fi
	@touch $@
