# Two commands do everything on a fresh machine with Python 3.11+ and make: `make demo`, `make test`.
# uv is used when it is there; plain venv and pip otherwise.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODEL := .models/all-MiniLM-L6-v2
INSTALL := $(if $(shell command -v uv 2>/dev/null),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check)
CHROMIUM = $(or $(CHROMIUM_PATH),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome))
QUESTION ?= Which river flows through the birthplace of the composer of The Magic Flute?

.PHONY: help demo test lint fmt bench model browser live api storm served torture simulate explore fuzz mutants clean

help: ## Show what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(STAMP) ## Set up, then answer a 3-hop question over examples/corpus
	$(BIN)/hoptrail ask "$(QUESTION)" --docs examples/corpus

test: $(STAMP) ## Set up, then run every test that needs no real model
	$(BIN)/pytest $(TESTS)

lint: $(STAMP) ## Style, types, and the arrows between the modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(STAMP) ## Format, and fix what can be fixed by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Wall time, own cost per question, ends against deadlines, EM and F1
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.deadlines
	$(BIN)/python -m benchmarks.answers

model: $(MODEL)/model.onnx ## Real all-MiniLM-L6-v2 weights, for the tests marked `model`
	$(INSTALL) --editable ".[local]"
	$(BIN)/pytest -m model

browser: $(STAMP) ## The trace viewer in a real browser (installs Playwright, and Chromium if root)
	$(INSTALL) --group browser
	@if [ -z "$(CHROMIUM)" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
		else \
			echo "There is no Chromium: install it (sudo apt-get install chromium), or say where it" \
				"is: make browser CHROMIUM_PATH=/path/to/chromium" >&2; \
			exit 1; \
		fi; \
	fi
	$(BIN)/pytest -raP --show-capture=stdout -m browser
	$(BIN)/python -m benchmarks.viewer

live: $(STAMP) ## Tests against a real Ollama (`ollama serve`) and Hugging Face (HF_TOKEN)
	$(BIN)/pytest -m live

api: $(STAMP) ## More than 5,000 requests made up from the OpenAPI document (schemathesis)
	$(BIN)/pytest -n0 -s --show-capture=no tests/test_openapi.py -k made_up --api-examples=200

storm: $(STAMP) ## 500 clients that leave in every way, and what is left of them
	$(BIN)/pytest -n0 -s --show-capture=no tests/test_storm.py --disconnects=500

served: $(STAMP) ## Tests against LangGraph's development server (installs langgraph-cli)
	$(INSTALL) "langgraph-cli[inmem]"
	$(BIN)/pytest -n0 -m langgraph_dev

torture: $(STAMP) ## 2,000 runs killed at random, once, twice, three times (KILLS=2000)
	$(BIN)/python -m tests.torture $(or $(KILLS),2000)

simulate: $(STAMP) ## 1,000 seeded runs of the router on virtual time
	$(BIN)/pytest -n0 -s --show-capture=no tests/test_router_simulation.py --simulations=1000

explore: $(STAMP) ## Each property with examples that were not tried yet, 1,000 where the tests say nothing
	$(BIN)/pytest -m "hypothesis and not (live or model or browser)" --hypothesis-profile=explore

fuzz: $(STAMP) ## Each parser under atheris, on Linux (LIMIT=150 seconds each)
	@test "$$(uname)" = Linux || { \
		echo "make fuzz needs Linux: atheris has no build for this system" >&2; exit 1; }
	$(INSTALL) --group fuzz
	@for each in plan reply citations events lines trace settings documents words; do \
		echo "== $$each"; \
		$(BIN)/python -m tests.fuzz $$each -max_total_time=$(or $(LIMIT),150) || exit 1; \
	done

mutants: $(STAMP) ## Is a changed line noticed? Hours (MUTANTS="hoptrail.space.*" takes a part)
	$(INSTALL) --group mutants
	nice -n 10 $(BIN)/mutmut run --max-children $(or $(CHILDREN),1) $(MUTANTS)
	$(BIN)/python -m tests.mutants

clean: ## Remove what was made here
	rm -rf $(VENV) .models .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MODEL)/model.onnx: | $(STAMP)
	$(BIN)/python -m benchmarks.export_minilm

$(STAMP): pyproject.toml
	@if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --allow-existing --python '>=3.11' $(VENV); \
	else \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hoptrail needs Python 3.11 or newer: make PYTHON=python3.11 ...")' && \
		$(PYTHON) -m venv $(VENV) && \
		$(INSTALL) --upgrade "pip>=25.1"; \
	fi
	$(INSTALL) --editable ".[server,mcp,otel]" --group dev
	@touch $@
