# `make` alone lists the targets. Only Python 3.11 is needed; the rest is put into .venv.

TABLE ?=
VERSION ?=
RUNNER ?= direct
DIRECTION ?= up
SOURCE ?=
STAGE ?= local
DRY ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SPARK := $(VENV)/.spark
EMULATOR := $(VENV)/ministack/.installed
SECURITY := $(VENV)/security/.installed
BENCH := $(VENV)/bench/.installed
LOWEST := $(VENV)/lowest/.installed
PACKAGING := $(VENV)/packaging/.installed
# What `make test-pythons` runs: all, or such as "locked-3.13 lowest-3.12".
SESSIONS ?=
DIST ?= dist
PIP_LOCKED := -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement
PIP_COMPILE = env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet \
	--upgrade --generate-hashes --allow-unsafe --strip-extras --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
# Tests wait about half of their time: two workers for each of two cores.
WORKERS ?= 4
TESTS := -m pytest -m "not chaos"
PYTEST := $(BIN)/python $(TESTS)
AT_ONCE = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
KILLS := 48
FAULTS := 500
SEEDS := 0-1999
SEED := 20
OF_THE_DAY = $(if $(filter-out 20,$(SEED)),$(COMMA)$(SEED))
MINUTES :=
test-chaos: WORKERS := 2
# Many containers set it; each process of the tests would then compile the package again.
test test-quick test-unit test-pythons test-pipeline test-service test-e2e test-chaos coverage: export PYTHONDONTWRITEBYTECODE :=
COMMA := ,
# slipcover's probes are removed after the first hit; a tracer of each line doubles the CPU time of the tests.
COVERED := $(BIN)/python -W "ignore:Unable to activate pytest branch coverage" -m slipcover

on = $(filter-out 0 no false,$(1))
DYNAMODT_RUN = $(BIN)/dynamodt $(DIRECTION) --stage $(STAGE) $(if $(TABLE),--table $(TABLE)) \
	$(if $(VERSION),--to $(VERSION)) --runner $(RUNNER) $(if $(SOURCE),--source $(SOURCE)) $(if $(call on,$(DRY)),--dry-run) $(ARGS)
DYNAMODT_PREPARE = $(BIN)/dynamodt prepare --stage $(STAGE) --table $(TABLE) --version $(VERSION) \
	$(if $(filter glue,$(RUNNER)),--runner glue) $(if $(call on,$(DRY)),--dry-run) $(ARGS)
# Shows the command on stderr, as one would type it without make; stdout belongs to the command (ARGS=--json).
show_and_run = @echo '$$ $(strip $(1))' >&2; $(strip $(1))

export DYNAMODT_MAKE := 1

.DEFAULT_GOAL := help
.PHONY: help install run prepare bench deploy jar spark-jar test test-unit test-lowest test-pythons test-pipeline test-service test-quick test-chaos test-lives coverage test-e2e dynamodb-local serverless lint dist image format lock clean

##@ Use
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 } \
		/^## / { printf "  %-20s %s\n", "", substr($$0, 4) }' $(MAKEFILE_LIST)
	@echo

install: $(INSTALLED) $(EMULATOR) ## .venv with the locked dependencies (the other targets do it when it is missing)

run: $(INSTALLED) $(if $(filter spark,$(RUNNER)),$(SPARK)) ## apply versions to a table: make run TABLE=users VERSION=2 RUNNER=direct
## TABLE (default: all that have a folder), VERSION (the latest), RUNNER (direct; spark: Java 17, Maven),
## DIRECTION (up, or down), SOURCE (scan, or export), STAGE (local), DRY=1 (writes nothing), ARGS (further options)
	@case '$(DIRECTION)' in up|down) ;; *) echo 'DIRECTION is up or down' >&2; exit 2 ;; esac
	$(call show_and_run,$(DYNAMODT_RUN))

prepare: $(INSTALLED) ## run a version's prepare, and store its rows: make prepare TABLE=users VERSION=3
	@test -n "$(TABLE)" && test -n "$(VERSION)" || { echo 'usage: make prepare TABLE=users VERSION=3' >&2; exit 2; }
	$(call show_and_run,$(DYNAMODT_PREPARE))

deploy: $(INSTALLED) ## create the resources of a stage in AWS: make deploy STAGE=prod (DRY=1: only lists them)
	$(call show_and_run,$(BIN)/dynamodt deploy --stage $(STAGE) $(if $(call on,$(DRY)),--dry-run) $(ARGS))

jar: $(INSTALLED) ## Beam's Spark runner as one jar, for RUNNER=spark and Glue (Java 17, Maven; once)
	@$(BIN)/python -m dynamodt.pipeline.spark_context

##@ Test (ARGS goes to pytest: make test-unit ARGS="-k diff")
test: $(INSTALLED) $(EMULATOR) $(SPARK) dynamodb-local spark-jar serverless ## all tests except chaos, 5 minutes; lists the skipped tests with the reasons
	PYTHONHASHSEED=0 $(PYTEST) -rs $(AT_ONCE) $(wildcard tests/unit transforms tests/pipeline tests/service tests/e2e) $(ARGS)

test-quick: $(INSTALLED) ## unit and pipeline tests without the slow ones, a minute (needs no service)
	PYTHONHASHSEED=0 $(PYTEST) -m "not chaos and not slow" $(AT_ONCE) $(wildcard tests/unit transforms tests/pipeline) $(ARGS)

coverage: $(INSTALLED) $(EMULATOR) $(SPARK) dynamodb-local spark-jar serverless ## as test, and lists the lines that no test has run (a third more CPU)
	PYTHONHASHSEED=0 $(COVERED) $(TESTS) -rs $(AT_ONCE) $(wildcard tests/unit transforms tests/pipeline tests/service tests/e2e) $(ARGS)

test-unit: $(INSTALLED) ## pure logic, and the scripts in transforms/ (needs no service)
	$(PYTEST) tests/unit transforms $(ARGS)

test-lowest: $(LOWEST) ## test-unit with the lowest versions that pyproject.toml allows (needs a package index)
	PYTHONHASHSEED=0 $(VENV)/lowest/bin/python $(TESTS) $(AT_ONCE) tests/unit transforms $(ARGS)

test-pythons: $(PACKAGING) ## unit and pipeline on each Python found here, with the locked and the lowest Beam (2 minutes each)
	WORKERS=$(WORKERS) $(VENV)/packaging/bin/nox --envdir $(VENV)/pythons --no-error-on-missing-interpreters $(if $(SESSIONS),--session $(SESSIONS)) -- $(ARGS)

test-pipeline: $(INSTALLED) ## the Beam composition on a fake DynamoDB (needs no service)
	$(PYTEST) tests/pipeline $(ARGS)

test-service: $(INSTALLED) $(EMULATOR) $(SPARK) dynamodb-local spark-jar ## on ministack (installed automatically), DynamoDB Local and Spark (Java 17; Maven, once)
	$(PYTEST) -rs tests/service $(ARGS)

test-chaos: $(INSTALLED) $(EMULATOR) $(SPARK) dynamodb-local spark-jar serverless ## kills, faults and fuzzers in full, 30 minutes (needs what make test needs)
## KILLS (48) and FAULTS (500) with the seed 20, and again with SEED; SEEDS (0-1999) of the fuzzers, and 500 more of SEED;
## after MINUTES no further test starts, and the rest is skipped. It prints the command that repeats it
	@echo "make test-chaos KILLS=$(KILLS) FAULTS=$(FAULTS) SEEDS=$(SEEDS) SEED=$(SEED)" >&2
	PYTHONHASHSEED=0 DYNAMODT_KILLS=$(KILLS) DYNAMODT_FAULTS=$(FAULTS) DYNAMODT_SEED=20$(OF_THE_DAY) \
		DYNAMODT_SEEDS=$(SEEDS)$(if $(OF_THE_DAY),$(COMMA)$(SEED)000-$(SEED)499) DYNAMODT_EXAMPLES=400 \
		DYNAMODT_MINUTES=$(MINUTES) $(BIN)/python -m pytest -m "chaos or scaled" -rsP --hypothesis-seed=$(SEED) $(AT_ONCE) tests transforms $(ARGS)

test-lives: $(INSTALLED) ## random lives of a table, SEEDS=0-999: commands, deaths, faults (needs no service)
	PYTHONHASHSEED=0 DYNAMODT_SEEDS=$(SEEDS) $(PYTEST) $(AT_ONCE) tests/pipeline/test_sequences.py $(ARGS)

test-e2e: $(INSTALLED) $(EMULATOR) serverless ## the commands as typed, on the embedded local stage (Node for the plugin's tests)
	$(PYTEST) -rs tests/e2e $(ARGS)

dynamodb-local: ## the jars of DynamoDB Local for the service tests (Java 17, Maven; only a message if these are missing)
	@tests/service/dynamodb-local/fetch

spark-jar: $(INSTALLED) ## the jar for the tests on Spark (as `jar`, but only a message if it cannot be built)
	@$(BIN)/python -m dynamodt.pipeline.spark_context >/dev/null || [ "$${CI:-}" != true ]

serverless: ## the Serverless Framework for its plugin's tests (Node 20.19, npm, once; only a message if these are missing)
	@infra/serverless/fetch

##@ Maintain
bench: $(INSTALLED) $(EMULATOR) $(SPARK) $(BENCH) spark-jar ## measure the speed beside other tools: benchmarks/RESULTS.md and its plot (cc; 25 minutes)
## ARGS: --only cpu,rate,partitions,memory,startup,workers,safety,requests,connectors; --size 0.1; --times 3
	PYTHONPATH=. $(BIN)/python -m benchmarks.run $(ARGS)

lint: $(INSTALLED) $(SECURITY) ## ruff, mypy --strict on the package, the direction of imports; cfn-lint and checkov on infra/, hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(VENV)/security/bin/cfn-lint infra/template.yaml
	$(VENV)/security/bin/checkov --quiet --compact --skip-download --framework cloudformation --file infra/template.yaml
	$(VENV)/security/bin/hadolint Dockerfile

dist: $(PACKAGING) ## wheel, source distribution and the packed plugin, checked, in DIST (dist)
	rm -rf $(DIST)
	$(VENV)/packaging/bin/python -m build --outdir $(DIST) .
	$(VENV)/packaging/bin/twine check --strict $(DIST)/*
	$(VENV)/packaging/bin/check-wheel-contents $(DIST)/*.whl
	npm pack --ignore-scripts --pack-destination $(abspath $(DIST)) ./infra/serverless

image: ## the Dockerfile's image, dynamodt (Docker; only a message if there is no engine)
	@if docker info >/dev/null 2>&1; then docker build --tag dynamodt . && docker run --rm dynamodt --version; \
	else echo 'image: no Docker engine answers; the image is not built' >&2; fi

format: $(INSTALLED) ## ruff: format, and fix what is safe to fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## write requirements/*.lock from pyproject.toml and requirements/*.in, with the newest versions that fit
	@$(MAKE) --no-print-directory $(INSTALLED)
	@sed -nE 's/^ .*"(apache-beam==[0-9.]+)".*/\1/p' pyproject.toml >$(VENV)/beam.txt
	$(PIP_COMPILE) --extra beam,dev --constraint $(VENV)/beam.txt --no-build-isolation --output-file requirements/base.lock pyproject.toml
	$(PIP_COMPILE) --extra beam,dev,yaml --no-build-isolation --constraint requirements/base.lock --output-file requirements/yaml.lock pyproject.toml
	@sed -nE 's/^ .*"(apache-beam)>=([0-9.]+).*/\1==\2/p' pyproject.toml >$(VENV)/beam.txt
	$(PIP_COMPILE) --extra beam,dev --constraint $(VENV)/beam.txt --no-build-isolation --output-file requirements/beam-lowest.lock pyproject.toml
	$(PIP_COMPILE) --extra beam --no-build-isolation --constraint requirements/base.lock --output-file requirements/job.lock pyproject.toml
	$(PIP_COMPILE) --constraint requirements/base.lock --output-file requirements/spark.lock requirements/spark.in
	$(PIP_COMPILE) --output-file requirements/ministack.lock requirements/ministack.in
	$(PIP_COMPILE) --output-file requirements/security.lock requirements/security.in
	$(PIP_COMPILE) --output-file requirements/bench.lock requirements/bench.in
	$(PIP_COMPILE) --output-file requirements/packaging.lock requirements/packaging.in

clean: ## stop the local stage and delete .venv, caches and builds (the local stage keeps its data)
	@if test -x $(BIN)/dynamodt; then $(BIN)/dynamodt local stop >/dev/null 2>&1 || true; fi
	rm -rf $(VENV) .cache build dist pipelines/*.egg-info tests/service/dynamodb-local/libs infra/serverless/node_modules
	rm -rf .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find pipelines tests transforms glue_jobs infra -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(INSTALLED): requirements/base.lock pyproject.toml
	@python=$$(command -v python3.11 || command -v python3 || command -v python); \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
		|| { echo 'Python 3.11 is needed: install it, so that python3.11 is on the PATH' >&2; exit 1; }; \
	echo 'Installing the locked dependencies into $(VENV) (once; a minute or two) ...' >&2; \
	"$$python" -m venv $(VENV)
	@$(BIN)/python $(PIP_LOCKED) requirements/base.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# The emulator of the local stage. A command that needs it does the same when it is missing.
$(EMULATOR): requirements/ministack.lock $(INSTALLED)
	@$(BIN)/python -m dynamodt.local.install
	@touch $@

$(SPARK): requirements/spark.lock $(INSTALLED)
	@echo 'Installing a local Spark into $(VENV) (once; a minute or two) ...' >&2
	@$(BIN)/python $(PIP_LOCKED) requirements/spark.lock
	@touch $@

$(SECURITY): requirements/security.lock $(INSTALLED)
	@echo 'Installing the linters of infra/ into $(VENV)/security (once; a minute or two) ...' >&2
	@$(BIN)/python -m venv $(VENV)/security
	@$(VENV)/security/bin/python $(PIP_LOCKED) requirements/security.lock
	@touch $@

$(BENCH): requirements/bench.lock $(INSTALLED)
	@echo 'Installing the tools that make bench compares with into $(VENV)/bench (once; a minute or two) ...' >&2
	@$(BIN)/python -m venv $(VENV)/bench
	@$(VENV)/bench/bin/python $(PIP_LOCKED) requirements/bench.lock
	@touch $@

$(PACKAGING): requirements/packaging.lock $(INSTALLED)
	@echo 'Installing the packaging tools into $(VENV)/packaging (once) ...' >&2
	@$(BIN)/python -m venv $(VENV)/packaging
	@$(VENV)/packaging/bin/python $(PIP_LOCKED) requirements/packaging.lock
	@touch $@

# Each bound `name>=version` of pyproject.toml as the constraint `name==version`.
$(LOWEST): pyproject.toml $(INSTALLED)
	@echo 'Installing the lowest versions that are allowed into $(VENV)/lowest (once; a minute or two) ...' >&2
	@$(BIN)/python -m venv --clear $(VENV)/lowest
	@sed -nE 's/^ .*"([a-z0-9-]+)>=([0-9.]+).*/\1==\2/p' pyproject.toml >$(VENV)/lowest/constraints.txt
	@$(VENV)/lowest/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(VENV)/lowest/constraints.txt --editable '.[beam,dev]'
	@touch $@
