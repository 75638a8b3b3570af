# Every target builds what it needs: the first `make run` or `make test` takes a minute, later ones none.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DATA ?= tilbud-data
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TOOLS := $(VENV)/proto-tools
BUF = $(abspath $(TOOLS))/bin/buf
INSTALLED := $(VENV)/.tilbud
INSTALLED_DEV := $(VENV)/.tilbud-dev
INSTALLED_TOOLS := $(TOOLS)/.installed

.DEFAULT_GOAL := help
.PHONY: help run watch test check lint types imports contract released proto reference client lock tools prometheus languages clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(INSTALLED) ## serve the sample campaigns; ARGS="--durability power" adds options
	@mkdir -p $(DATA)
	$(BIN)/tilbud serve --campaigns src/tilbud/samples --data $(DATA) $(ARGS)

watch: $(INSTALLED_DEV) prometheus ## samples, visitors, Prometheus and pictures of the dashboards; ARGS="--seconds 60" ends it
	$(BIN)/python deploy/grafana/watch.py $(ARGS)

# Four files side by side keep two cores busy, since many tests wait for a process; in their order, since the file
# with the one longest test would come last by its size. Then come those that want the machine to themselves. Where
# ARGS leaves nothing to one of the two, pytest says so with 5. What Python compiled is kept, whatever the environment
# says: each of the hundreds of processes that tests start would compile all of it again.
test: export PYTHONDONTWRITEBYTECODE :=
test: ## run every test; ARGS="-k ledger" selects
	@$(MAKE) --no-print-directory --jobs 4 $(INSTALLED_DEV) $(INSTALLED_TOOLS) prometheus languages
	$(BIN)/python -m pytest -q -m "not alone" --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS) || [ $$? -eq 5 ]
	$(BIN)/python -m pytest -q -m alone $(ARGS) || [ $$? -eq 5 ]

check: $(INSTALLED_DEV) $(INSTALLED_TOOLS) ## lint, types, imports and contract, without the other tests
	@$(MAKE) --no-print-directory lint types imports contract

lint: ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: ## mypy, strict
	$(BIN)/mypy

imports: ## import-linter: which room may import which
	PYTHONPATH=src $(BIN)/lint-imports

contract: ## buf: its lint, and nothing in proto/ that breaks callers of the last release
	cd proto && $(BUF) lint
	cd proto && $(BUF) breaking --against released.binpb || { \
	echo "this breaks callers of the last release: see proto/buf.yaml"; exit 1; }

released: $(INSTALLED_TOOLS) ## keep the contract as that of a release, which later ones must not break
	cd proto && $(BUF) build --exclude-source-info --output released.binpb

proto: $(INSTALLED_TOOLS) ## generate src/tilbud/v1, the descriptors and docs/contract.md from proto/
	rm -f src/tilbud/v1/*_pb2*
	$(TOOLS)/bin/python proto/generate.py code src
	$(TOOLS)/bin/python proto/generate.py descriptors proto/contract.binpb
	$(TOOLS)/bin/python proto/generate.py page docs/contract.md

reference: $(INSTALLED) ## generate the keys of docs/campaigns.md from their JSON Schemas and the samples
	$(BIN)/python docs/campaign_reference.py docs/campaigns.md

client: $(INSTALLED_DEV) ## build dist/tilbud_client-*.whl: the client alone, which needs gRPC and protobuf alone
	cd deploy/client && $(abspath $(BIN))/python -m hatchling build --target wheel --directory $(abspath dist)

# For the Python of the image; the hashes are of every wheel there is, so those of other machines count as well.
LOCK = $(BIN)/uv pip compile --quiet --upgrade --python-version 3.13 --python-platform linux --generate-hashes \
	--only-binary :all: --no-header --no-annotate --no-emit-index-url

lock: $(INSTALLED_DEV) ## pin what the image installs: the newest there is, with hashes
	$(LOCK) pyproject.toml --output-file deploy/docker/requirements.txt
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\\n')" \
	| $(LOCK) - --output-file deploy/docker/requirements-build.txt

tools: $(INSTALLED_TOOLS) ## install what generates and lints the contract

# Debian's packages, unpacked into a directory of the venv: that needs no root and starts no service. The lists of what
# there is are the venv's own too, since those of the system may be missing and are root's; each has its own, since
# `test` makes them side by side.
APT_GET = timeout 120 apt-get -qq -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::http::Timeout=10 \
	-o Dir::State::lists=$(abspath $(1).apt)/lists -o Dir::Cache=$(abspath $(1).apt)/cache

unpack = rm -rf $(1).apt $(1) && mkdir -p $(1) $(1).apt/lists/partial $(1).apt/cache/archives/partial && \
	(cd $(1).apt && $(call APT_GET,$(1)) update && $(call APT_GET,$(1)) download $(2)) && \
	for package in $(1).apt/*.deb; do dpkg-deb -x $$package $(1) || exit 1; done && rm -rf $(1).apt

prometheus: | $(BIN)/python ## get prometheus and promtool for the tests, where they are missing
	@(for tool in prometheus promtool; do test -x $(BIN)/$$tool || command -v $$tool || exit 1; done) > /dev/null || \
	($(call unpack,$(VENV)/prometheus,prometheus) && \
	ln -sf ../prometheus/usr/bin/prometheus ../prometheus/usr/bin/promtool $(BIN)/) || \
	echo "prometheus could not be had; what needs it is skipped"

# What the tests compile the contract with in other languages: about 100 MB. Java and Node themselves must be there.
LANGUAGES := $(VENV)/languages
GO := golang-1.19-go golang-1.19-src protoc-gen-go-1-5 protoc-gen-go-grpc golang-github-golang-protobuf-1-5-dev \
	golang-golang-x-net-dev golang-golang-x-sys-dev golang-golang-x-text-dev golang-google-genproto-dev \
	golang-google-grpc-dev golang-google-protobuf-dev
JAVA := protobuf-compiler-grpc-java-plugin libgrpc-java libgeronimo-annotation-1.3-spec-java libguava-java libnetty-java \
	libperfmark-java libprotobuf-java
PROTOC := protobuf-compiler libprotobuf-dev libprotobuf32 libprotoc32
NODE := $(LANGUAGES)/node
PACKAGES := tests/languages/programs/package.json tests/languages/programs/package-lock.json

languages: | $(BIN)/python ## get what the tests need of Go, Java and Node, where it is missing
	@test -x $(LANGUAGES)/debian/usr/bin/protoc-gen-go-grpc || ($(call unpack,$(LANGUAGES)/debian,$(PROTOC) $(GO) $(JAVA))) || \
	echo "protoc, Go and the packages for Java could not be had; what needs them is skipped"
	@cmp -s tests/languages/programs/package-lock.json $(NODE)/.installed || \
	(rm -rf $(NODE) && mkdir -p $(NODE) && cp $(PACKAGES) $(NODE) && cd $(NODE) && \
	timeout 120 npm ci --silent --ignore-scripts --no-audit --no-fund && cp package-lock.json .installed) || \
	echo "the packages for Node could not be had; what needs them is skipped"

clean: ## remove .venv, tilbud-data, tilbud-pictures, builds and caches
	rm -rf .venv tilbud-data tilbud-pictures build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests proto -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev,otel,watch]'
	@touch $@ $(INSTALLED)

$(INSTALLED_TOOLS): proto/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@touch $@
