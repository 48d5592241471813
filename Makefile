# Every target sets this clone up first (bootstrap.sh), which takes no time when nothing is missing.
# `make help` lists the targets with the text behind their ##.
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE
SOFTCART := .venv/bin/softcart

.PHONY: help install manifest demo demo-hadoop demo-s3 hadoop test slowest search torture up kafka superset down ui bench lint typecheck format picture lock pins audit doctor clean
.PHONY: lint-sql lint-definitions lint-imports lint-english lint-style

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: ## Install what is missing: Debian packages, Python packages in .venv
	@./bootstrap.sh

manifest: install ## Read the dbt project, from which Dagster's definitions are made
	@.venv/bin/python -c "from softcart_assets.cli.settings import read_dotenv; read_dotenv(); \
	  from softcart_assets.dbt import prepare_manifest; prepare_manifest()"

demo: install ## Start servers, seed them, materialise everything, say what to open
	@$(SOFTCART) demo

demo-hadoop: manifest hadoop ## The demo with the lake in HDFS and Spark on YARN, in a home of its own (SOFTCART_HOME)
	@$(SOFTCART) demo

demo-s3: manifest ## The demo with the lake on a local server of S3, in a home of its own (SOFTCART_HOME)
	@.venv/bin/python -m softcart_assets.jars s3
	@$(SOFTCART) up --with s3-lake
	@$(SOFTCART) demo

hadoop: manifest ## Start the local servers, with HDFS for the lake and YARN for Spark
	@$(SOFTCART) up --with hadoop

up: manifest ## Start the local servers
	@$(SOFTCART) up

kafka: manifest ## Start the local servers with Kafka and Debezium, which Maven brings
	@$(SOFTCART) up --with kafka --with debezium

superset: manifest ## Start the local servers with Superset, a BI server in an environment of its own
	@$(SOFTCART) up --with superset

down: install ## Stop the local servers; data stay
	@$(SOFTCART) down

ui: install ## Open the Dagster UI and run the sensors and schedules, until Ctrl-C
	@$(SOFTCART) ui

test: manifest ## Run all tests on servers of their own, in two workers (TESTS: arguments of pytest)
	@./bootstrap.sh --tests
	.venv/bin/python -m pytest --numprocesses 2 $(TESTS)

slowest: manifest ## Run all tests, list the slowest twenty and the processor seconds of each file
	@$(MAKE) --no-print-directory test TESTS="--durations 20 --processor"

search: manifest ## Run the property tests with many other examples
	@$(MAKE) --no-print-directory test TESTS="-m hypothesis --hypothesis-profile search"

torture: install ## Kill and cut off everything for an hour while data changes (SECONDS, SEED; one line per round)
	.venv/bin/python -m tests.faults.torture --seconds $(or $(SECONDS),3600) $(if $(SEED),--seed $(SEED))

bench: install ## Measure everything beside other tools; `make bench BENCH="copy --scale 0.1"` a part
	.venv/bin/python -m benchmarks $(BENCH)

# Two at a time, the longest first. All are made, whatever the others find.
lint: manifest ## Check style, types, the documentation's English and the Dagster definitions
	@$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync \
	  typecheck lint-sql lint-definitions lint-imports lint-english lint-style

lint-sql: install
	.venv/bin/sqlfluff lint --disable-progress-bar dbt_project

lint-definitions: install
	.venv/bin/dg check defs

lint-imports: install
	.venv/bin/lint-imports --no-logo --no-cache

lint-english: install
	.venv/bin/python docs/check_english.py

lint-style: install
	.venv/bin/ruff check
	.venv/bin/ruff format --check

typecheck: install ## Check types
	.venv/bin/mypy

format: install ## Format the code and mend what can be mended mechanically
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

picture: install ## Draw who imports whom and, after `make demo`, pages and screens: docs/images
	.venv/bin/python docs/draw_packages.py
	set -e; for each in $(filter-out docs/draw_packages.py,$(wildcard docs/draw_*.py)); do \
	  $(SOFTCART) run -- python $$each; done

RESOLVE := ./bootstrap.sh uv pip compile --quiet --universal --python-version 3.11 --no-header \
  --no-annotate --generate-hashes

lock: ## Resolve requirements.in and requirements-dev.in into requirements.lock, with hashes
	$(RESOLVE) requirements.in requirements-dev.in --output-file requirements.lock
	$(RESOLVE) softcart_assets/stack/in_superset/requirements.in \
	  --output-file softcart_assets/stack/in_superset/requirements.lock
	./bootstrap.sh
	.venv/bin/python docs/list_licences.py

pins: install ## Write the checksums of the Java libraries in softcart_assets/jars anew
	.venv/bin/python -m softcart_assets.jars --pin

audit: install ## Ask a public service which packages in the lock have known vulnerabilities
	.venv/bin/python docs/audit_packages.py

doctor: ## Say what is missing or wrong on this machine, and what to do; it works before `make install`
	@./bootstrap.sh doctor

clean: install ## Stop the local servers and delete their data, and what tools have cached
	@$(SOFTCART) down --delete-data
	rm -rf dbt_project/target dbt_project/logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
