# The two that matter:  make run   make test
# Everything may be run twice in a row, as root or not; what is already there is not fetched or built again.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
export PATH := $(HOME)/.cargo/bin:$(PATH)

# One profile for everything that is tested (dev, see Cargo.toml), so that nothing is built twice.
CARGO := cargo
ANTIPHON := $(CARGO) run --locked --quiet --bin antiphon --

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' Makefile

.PHONY: run
run: setup ## build the program, fetch the starter models, open the window
	@$(CARGO) build --locked --release
	@"$${CARGO_TARGET_DIR:-target}/release/antiphon" models pull --starter
	@scripts/run.sh

.PHONY: setup
setup: ## install what is missing to build and run
	@scripts/toolchain.sh
	@scripts/setup.sh build $$([ -z "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ] || echo run)

.PHONY: test
test: testsetup lint doc models ## everything: format, lints, documentation, all tests with real models
	@scripts/test.sh

.PHONY: testsetup
testsetup:
	@scripts/toolchain.sh clippy rustfmt
	@scripts/setup.sh build run lint test

# Tests find their models where the program does: in ANTIPHON_HOME, or in the platform's folder.
.PHONY: models
models: setup ## fetch the starter models into the store
	@$(ANTIPHON) models pull --starter

.PHONY: check
check: lint doc ## what a change needs before it is committed; no models: format, lints, documentation, unit tests
	@$(CARGO) test --locked --lib

.PHONY: lint
lint: lintsetup ## format, lints, shell scripts
	@$(CARGO) fmt --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@shellcheck scripts/*.sh .ci/run

.PHONY: lintsetup
lintsetup:
	@scripts/toolchain.sh clippy rustfmt
	@scripts/setup.sh build lint

.PHONY: doc
doc: ## build the documentation, warnings denied
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

.PHONY: screenshot
screenshot: testsetup models ## a spoken question to the real window, pictured in docs/screenshot.png
	@$(CARGO) test --locked --test talk -- --nocapture
	@cp "$${CARGO_TARGET_DIR:-target}/tmp/talk.png" docs/screenshot.png
	@echo "docs/screenshot.png"

.PHONY: clean
clean: ## remove what was built (not the models)
	@$(CARGO) clean
	@rm -f answer.wav
