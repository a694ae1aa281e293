# The two that matter:  make run   make test
# Everything may be run twice in a row, as root or not; what is already there is not fetched or built again.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
export PATH := $(HOME)/.cargo/bin:$(PATH)

CARGO := cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' Makefile

.PHONY: run
run: setup ## build the program, fetch the starter models, open the window
	@$(CARGO) build --locked --release
	@$(TARGET)/release/antiphon models pull --starter
	@scripts/run.sh $(TARGET)/release/antiphon

.PHONY: setup
setup: ## install what is missing to build and run
	@scripts/setup.sh build $$([ -z "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ] || echo run)
	@scripts/toolchain.sh

.PHONY: test
test: testsetup lint doc testbuild ## everything: format, lints, documentation, all tests with real models
	@scripts/test.sh

.PHONY: testsetup
testsetup:
	@scripts/setup.sh build run lint test
	@scripts/toolchain.sh clippy rustfmt

# The program as the tests build it, so that nothing is built twice; it fetches the starter models to where it looks for
# them (ANTIPHON_HOME, or the platform's folder), and so the tests find them.
.PHONY: testbuild
testbuild:
	@$(CARGO) test --locked --no-run
	@$(TARGET)/debug/antiphon models pull --starter

.PHONY: check
check: lint doc ## what a change needs before it is committed; no models: format, lints, documentation, unit tests
	@$(CARGO) test --locked --lib

.PHONY: lint
lint: lintsetup ## format, lints, shell scripts
	@$(CARGO) fmt --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@scripts/cuda.sh check
	@scripts/package.sh check
	@shellcheck scripts/*.sh scripts/cuda/*.sh .ci/run

.PHONY: lintsetup
lintsetup:
	@scripts/setup.sh build lint
	@scripts/toolchain.sh clippy rustfmt

.PHONY: doc
doc: ## build the documentation, warnings denied
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

MINUTES ?= 30

.PHONY: soak
soak: testsetup ## a long scripted dialogue with a real sound service: memory and xruns (MINUTES=30)
	@SOAK_MINUTES=$(MINUTES) $(CARGO) test --locked --test soak

.PHONY: bench-peers
bench-peers: setup ## against faster-whisper, llama.cpp and Piper on onnxruntime, same models, in alternation (QUESTIONS=DIR, RUNS=3)
	@$(CARGO) build --locked --release
	@$(TARGET)/release/antiphon models pull --starter
	@scripts/bench-peers.sh $(TARGET)/release/antiphon

.PHONY: cuda
cuda: ## build the program for NVIDIA GPUs; needs neither a GPU nor CUDA (20 min of one core, once)
	@scripts/toolchain.sh
	@scripts/cuda.sh build

.PHONY: gpucheck
gpucheck: ## on a GPU machine: check and time the omni engine at full size with random weights (10 min)
	@scripts/toolchain.sh
	@scripts/gpu-check.sh

PREFIX ?= /usr/local
BIN ?= $(TARGET)/release/antiphon

# Installs what is built, so that `sudo make install` builds nothing as root.
.PHONY: install
install: ## copy the program, its icon and its menu entry to PREFIX (/usr/local), below DESTDIR
	@[ -x "$(BIN)" ] || { echo "$(BIN) is not there: build it first, with 'cargo build --release --locked'"; exit 1; }
	@scripts/package.sh install "$(BIN)" "$(DESTDIR)$(PREFIX)"

.PHONY: uninstall
uninstall: ## remove what `make install` copied
	@scripts/package.sh uninstall "$(DESTDIR)$(PREFIX)"

.PHONY: deb
deb: setup ## make a Debian package of the program
	@$(CARGO) build --locked --release
	@scripts/package.sh deb $(TARGET)

.PHONY: clean
clean: ## remove what was built (not the models)
	@$(CARGO) clean
	@rm -f answer.wav
