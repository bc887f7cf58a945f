# Two commands do everything on a fresh machine: `make demo` and `make test`. CONTRIBUTING.md has the rest.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup user programs demo run test test-long prove-checks check lock bench bench-long clean

## setup       make .venv with the packages of requirements.lock and the command .venv/bin/outdial
setup: .venv/ready ; @:

.venv/ready: requirements.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" tools/setup.sh

# PostgreSQL does not run as root: for root alone, a system user that it can run as.
user:
	@tools/pg_user.sh

# What some tests talk to, as far as it can be had.
programs:
	@tools/test_programs.sh

## demo        start a server, add numbers, call them, print the results, stop
demo: setup user
	@$(BIN)/python examples/demo.py
	@$(BIN)/python examples/demo_sip.py

## run         the whole server on loopback, its data kept in the folder data
run: setup user
	@$(BIN)/outdial dev --data data

## test        all tests but the long counts
test: setup user programs
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not long"

## test-long   all tests, with the full counts
test-long: setup user programs
	@tools/test_long.sh

## prove-checks  each proof against a copy of the code with a bug in it: it must turn red
prove-checks: setup user programs
	$(BIN)/python -m pytest -n 4 -m guard

## check       lint, format, types, import contracts, lock
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/lock.py --check

## lock        write requirements.lock anew with the newest versions that fit
lock: setup
	$(BIN)/python tools/lock.py

## bench       the benchmarks, side by side with their raw limits
bench: setup user
	@$(BIN)/python bench/run.py

## bench-long  the same with the full counts
bench-long: setup user
	@$(BIN)/python bench/run.py --long

## clean       remove what make made here, but not the folder data
clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
