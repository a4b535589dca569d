# What one does with this project. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PKG       ?= ./...
TESTFLAGS ?=
BENCH     ?= .
BENCHTIME ?= 2s
COUNT     ?= 1

# Most tests wait for PostgreSQL, Redis or a signal, not for a core: more of them at a time than there are cores.
TEST = go test -timeout 10m -parallel 8

SCRIPTS = scripts/services scripts/conformance .ci/run

.PHONY: help run demo test bench lint conformance build clean

help: ## list the targets and their variables
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## start everything with demo data in one process; needs nothing but Go, make and git
	go build -o build/ ./cmd/cohortflow
	build/cohortflow up --demo

demo: ## the same, runs the whole workflow once and ends
	go build -o build/ ./cmd/cohortflow
	build/cohortflow up --demo --exit

test: ## all tests, with a PostgreSQL and a Redis of their own [PKG=./internal/export/... TESTFLAGS='-run Name -v']
	scripts/services run -- $(TEST) $(TESTFLAGS) $(PKG)

bench: ## benchmarks, on a PostgreSQL with its usual durability; also in build/bench.txt [BENCH=regex BENCHTIME=2s COUNT=1]
	@mkdir -p build
	scripts/services run --durable -- go test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -count $(COUNT) \
	  -benchmem -timeout 60m $(if $(filter command line,$(origin PKG)),$(PKG),./internal/...) | tee build/bench.txt

lint: ## gofmt, go vet, staticcheck; shellcheck where it is installed
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { printf 'gofmt would change:\n%s\n' "$$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	@if command -v shellcheck >/dev/null; then set -x; shellcheck $(SCRIPTS); \
	  else echo 'shellcheck is not installed: the scripts were not checked'; fi

# make hands its command line's variables to the script in the environment; there, a $ in RUN is written $$.
conformance: build ## the conformance kit against build/ [CASES='dir …' RUN='regex …' PROFILE=name PARALLEL=16 APIS=1 WORKERS=1 KIT=dir]
	scripts/conformance

build: ## build/cohortflow, build/api, build/worker, build/scheduler
	go build -o build/ ./cmd/...

clean: ## remove what the targets above have made
	rm -rf build
