# Two commands do everything: `make demo` runs the main job, `make test` passes the tests.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
HOME_DIR ?= .onetouch

.PHONY: help setup demo up test test-all lint bench imports year faults model situations mutants audit lock docs clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready  ## install everything into .venv, at the versions of requirements.lock

.venv/.ready: requirements.lock pyproject.toml
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'
	test -x $(BIN)/python || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q include/onetouch
	touch $@

demo: setup  ## the main job: a simulated company, a real Airflow, tasks in a CRM, a report in Slack
	$(BIN)/onetouch --home $(HOME_DIR) demo

up: setup  ## the same, left running; prints the addresses and the sign-in
	$(BIN)/onetouch --home $(HOME_DIR) demo --keep

test: setup  ## the test suite, without what is marked as long
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: setup  ## the test suite, long tests too
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "long or not long"

lint: setup  ## style, order of rooms, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

bench: setup  ## this project beside hand-written DuckDB SQL, Polars and a loop over simple-salesforce
	$(BIN)/python -m benchmarks.signals
	$(BIN)/python -m benchmarks.decisions
	$(BIN)/python -m benchmarks.delivery

imports: setup  ## what each command costs to start, and which libraries take longest to import
	$(BIN)/python -m benchmarks.imports

year: setup  ## the rules over a simulated year of 20,000 accounts, judged by an oracle (about 20 minutes)
	$(BIN)/python -m benchmarks.year --accounts 20000 --days 365

faults: setup  ## the delivery under 10,000 seeds of faults, killed 50 times, and with planted bugs (takes a while)
	$(BIN)/python -m benchmarks.faults --seeds 10000
	$(BIN)/python -m benchmarks.faults.real --kills 50
	$(BIN)/python -m benchmarks.faults --bugs

model: setup  ## every state of the delivery's model, to a bound; planted bugs; 200 histories of the simulator
	$(BIN)/python -m benchmarks.model
	$(BIN)/python -m benchmarks.model --bugs
	$(BIN)/python -m benchmarks.model --histories 200

situations: setup  ## what happens in real orgs, each situation played against the stand-ins: expected and seen
	$(BIN)/python -m benchmarks.situations

mutants: setup  ## what the tests of scoring and routing notice when a line is changed (takes a while)
	$(BIN)/python -m benchmarks.mutants

audit: setup  ## known vulnerabilities of the pinned packages (needs the network; AUDIT=required fails without)
	.ci/audit

lock: setup  ## resolve pyproject.toml anew: requirements.lock (everything), requirements.txt (what runs)
	$(BIN)/uv pip compile pyproject.toml --extra sandbox --group dev -o requirements.lock --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --quiet --upgrade
	$(BIN)/uv pip compile pyproject.toml --extra sandbox -c requirements.lock -o requirements.txt --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate --quiet

docs: setup  ## the generated pages
	$(BIN)/python docs/dags.py
	$(BIN)/python docs/policy.py
	$(BIN)/python docs/rules.py
	$(BIN)/python docs/scenarios.py
	$(BIN)/python docs/dossiers.py

clean:  ## remove what make made
	rm -rf .venv $(HOME_DIR) build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
