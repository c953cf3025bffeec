# `make help` lists the targets. CI uses the same ones (.ci/run).
.DEFAULT_GOAL := help
SHELL := /bin/sh
PY := .venv/bin/python
# smtp-sink and similar programs are in sbin, which is not on everyone's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
# More arguments, for pytest: make test ARGS="-k limits"
ARGS ?=
# The registry for images: make images REGISTRY=registry.example.com/team PUSH=1
export REGISTRY
export PUSH

.PHONY: help install run test everyday clients lint format crds generated chart images bench simulate e2e scale e2e-down lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## Create .venv from the lock file; does nothing if nothing has changed

.venv/.installed: requirements/dev.txt pyproject.toml scripts/make-venv
	@scripts/make-venv

run: install ## Run the sandbox example on this machine; more options: ARGS="--admin 127.0.0.1:8026"
	@echo "==> mailrelay up examples/1-sandbox.yaml (Ctrl-C stops it)"
	@exec .venv/bin/mailrelay up examples/1-sandbox.yaml $(ARGS)

test: install ## Run all tests that need no cluster
	@scripts/debian-packages test
	@echo "==> Tests"
	@$(PY) -m pytest tests --ignore=tests/e2e --ignore=tests/bench $(ARGS)

everyday: install ## Run the tests of everyday failures in full length (some ten minutes), and show figures
	@scripts/debian-packages test
	@echo "==> Everyday runs"
	@EVERYDAY=long $(PY) -m pytest tests/integration/everyday $(ARGS)

clients: install ## Run the code in docs/connect-your-app.md with the real mail clients
	@scripts/debian-packages clients
	@scripts/mail-clients
	@echo "==> Clients"
	@CLIENTS=1 $(PY) -m pytest tests/clients $(ARGS)

lint: install generated ## Check style, types and imports, and that generated files are current
	@echo "==> ruff check"
	@.venv/bin/ruff check .
	@echo "==> ruff format --check"
	@.venv/bin/ruff format --check .
	@echo "==> mypy --strict"
	@.venv/bin/mypy
	@echo "==> import-linter"
	@.venv/bin/lint-imports --no-logo --no-cache

format: install ## Format the code and apply ruff's fixes
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

crds: install ## Generate crds/*.yaml, the chart's copies and the API's reference pages from the models
	@echo "==> crds/, charts/mailrelay/templates/crds/ and docs/reference/"
	@$(PY) -m mailrelay_operator.api.crd crds/
	@$(PY) docs/reference/generate.py

chart: install crds ## Generate the dashboard, and lint and render the chart
	@echo "==> charts/mailrelay"
	@$(PY) charts/dashboards/generate.py
	@$(PY) -m pytest -q tests/unit/chart $(ARGS)

generated: install
	@echo "==> Checking that generated files are current"
	@$(PY) -m mailrelay_operator.api.crd --check crds/
	@$(PY) docs/reference/generate.py --check
	@$(PY) charts/dashboards/generate.py --check

images: ## Build both images with the names in the chart; REGISTRY=registry.example.com/team PUSH=1 pushes them
	@python3 tests/e2e/provision.py images

bench: install ## Compare with Postfix and a minimal relay, or ARGS="--against REVISION": rate, CPU, memory; table and JSON
	@scripts/debian-packages bench
	@echo "==> Benchmark"
	@$(PY) tests/bench/run.py $(ARGS)

simulate: install ## Run simulations with random seeds and print those that fail: ARGS="--seeds 10000 --world queue"
	@$(PY) -m tests.simulation.run $(ARGS)

e2e: install ## Run the end-to-end tests on a real cluster; KEEP=1 leaves it up for the next run
	@scripts/debian-packages e2e
	@$(PY) tests/e2e/provision.py run $(if $(KEEP),--keep) -- $(PY) -m pytest tests/e2e $(ARGS)

scale: install ## Measure the operator with many relays and senders on the cluster of KUBECONFIG; options: tests/e2e/scale
	@$(PY) -m tests.e2e.scale $(ARGS)

e2e-down: install ## Remove the cluster that `make e2e KEEP=1` left
	@$(PY) tests/e2e/provision.py down

lock: install ## Update requirements/*.txt to the newest versions that are at least a week old
	@scripts/lock

clean: ## Remove everything that the other targets created here, including .venv (not the cluster's cache)
	rm -rf .venv .grimp_cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist .e2e
	find . -name __pycache__ -prune -exec rm -rf {} +
