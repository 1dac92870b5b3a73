# polyvec: `make help` lists what there is. Targets make .venv when it is missing and renew it when its pins change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --disable-pip-version-check --quiet
DEMO ?= demo
SERVER_PORT ?= 4200
export PREFECT_HOME ?= $(CURDIR)/.prefect

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow lint types peers-c bench bench-small ui clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

venv: $(VENV)/.installed ## make .venv with everything, from the pins of constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[all,dev]'
	touch $@

demo: venv ## write a sample pipeline into ./demo, run it, ask it a few questions
	test -f $(DEMO)/polyvec.yaml || $(BIN)/polyvec init $(DEMO)
	$(BIN)/polyvec run -f $(DEMO)/polyvec.yaml
	@for word in music river war; do echo; echo "nearest to $$word:"; $(BIN)/polyvec search words $$word -k 6 -f $(DEMO)/polyvec.yaml; done
	@for query in "birthday cake" rocket angry; do echo; echo "drawings for $$query:"; $(BIN)/polyvec search shared "$$query" -k 5 -f $(DEMO)/polyvec.yaml; done
	@echo; echo "look further: $(BIN)/polyvec show looks -f $(DEMO)/polyvec.yaml"
	@echo "read the vectors: duckdb, polars or pandas on the paths of"; $(BIN)/polyvec files words -f $(DEMO)/polyvec.yaml

test: venv ## the fast tests, what CI runs
	$(BIN)/python -m pytest -q -m 'not slow'

$(VENV)/.spark: $(VENV)/.installed
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[spark]'
	touch $@

test-slow: venv $(VENV)/.spark ## all tests, with new random examples, those of Spark too (it needs Java 17)
	POLYVEC_HYPOTHESIS=default $(BIN)/python -m pytest -q

lint: venv ## ruff, the direction of imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

.venv-peers/.installed: benchmarks/requirements-peers.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install $(PIP_FLAGS) -r benchmarks/requirements-peers.txt
	touch $@

peers-c: ## build word2vec.c, fastText and GloVe into .venv-peers/c, from clones in SOURCES=folder or from GitHub
	benchmarks/peers/build.sh "$(SOURCES)"

bench: venv .venv-peers/.installed ## speed and quality beside gensim, PecanPy, plain torch and pyarrow, in one run
	$(BIN)/python -m benchmarks.run

bench-small: venv ## all benchmarks on little data, to see that they work; not worth quoting
	$(BIN)/python -m benchmarks.run --small --results build/bench-small

ui: venv ## start a Prefect server on 127.0.0.1 and print the link
	@echo "the UI:     http://127.0.0.1:$(SERVER_PORT)"
	@echo "to use it:  export PREFECT_API_URL=http://127.0.0.1:$(SERVER_PORT)/api"
	@echo "            $(BIN)/polyvec run -f $(DEMO)/polyvec.yaml --force"
	$(BIN)/python -m flows.server $(SERVER_PORT)

clean: ## remove the environment, the demo and caches
	rm -rf $(VENV) .venv-peers $(DEMO) .prefect .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
