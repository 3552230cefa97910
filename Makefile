# The commands of the project. `make run` and `make test` work on a fresh Debian machine with Rust; see README.md.
#
# Every target that builds obeys CARGO_TARGET_DIR. PROFILE chooses the build that the end-to-end tests drive.

PROFILE ?= dev
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
CACHE := $(or $(POSTROOM_CACHE),$(HOME)/.cache/postroom)
BINARY := $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/postroom
PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin
export PATH
SHELL := /bin/bash

# What is asked of the server on PostgreSQL too.
POSTGRESQL := $(foreach what,cli smtp pop3 imap imap_model outbound receipts events webhooks delivery_crash,tests/test_$(what).py)

.PHONY: run test bench fuzz soak check unit e2e binary

## run: install what is missing, build, and serve from ./data
run:
	scripts/install build
	scripts/run

## test: every test; `unit` and `e2e` are its halves
test:
	scripts/install test
	$(MAKE) --no-print-directory check
	$(MAKE) --no-print-directory unit
	$(MAKE) --no-print-directory fuzz SECONDS=$(or $(FUZZ_SECONDS),60)
	$(MAKE) --no-print-directory e2e

## check: format, lints, licences, floors; changes nothing
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	if [ -x scripts/deny ]; then scripts/deny; fi
	if [ -x scripts/floors ]; then scripts/floors; fi

## unit: the tests inside the crates, and the examples in their documentation
unit:
	if command -v cargo-nextest > /dev/null; then \
	  cargo nextest run --workspace --locked --no-tests=pass && cargo test --workspace --locked --doc --quiet; \
	else cargo test --workspace --locked; fi

binary:
	cargo build --locked --package postroom --profile $(PROFILE)
	# By itself: its clock for tests is not to be in the server's tokio.
	cargo build --locked --package postroom-simnet --profile $(PROFILE)

## e2e: real clients against a real server; ARGS go to pytest
e2e: binary
	POSTROOM_BIN=$(BINARY) POSTROOM_CACHE=$(CACHE) $(CACHE)/python/bin/pytest tests $(ARGS)
	if [ -z "$(ARGS)" ]; then POSTROOM_BIN=$(BINARY) POSTROOM_CACHE=$(CACHE) POSTROOM_STORE=postgresql \
	  $(CACHE)/python/bin/pytest $(POSTGRESQL); fi

## fuzz: each wire machine for a share of SECONDS
fuzz:
	if [ -x scripts/fuzz ]; then scripts/fuzz $(or $(SECONDS),60); fi

## soak: the tests that CI runs a little of, run for hours: a kill of one of two nodes takes a quarter of a minute
SOAK := POSTROOM_BIN=$(BINARY) POSTROOM_CACHE=$(CACHE) POSTROOM_DELIVERY_ROUNDS=300
soak: binary
	scripts/install test
	$(SOAK) POSTROOM_CRASH_ROUNDS=200 POSTROOM_CUTS=1000 POSTROOM_NODE_ROUNDS=300 $(CACHE)/python/bin/pytest --timeout=7200 \
	  tests/test_crash.py tests/test_delivery_crash.py tests/test_powercut.py tests/test_nodes.py $(ARGS)
	$(SOAK) POSTROOM_STORE=postgresql $(CACHE)/python/bin/pytest --timeout=7200 tests/test_delivery_crash.py $(ARGS)
	cargo test --locked --package postroom-outbox --test simulation -- --ignored --nocapture

## bench: ours beside Postfix + Dovecot, with the table in docs/performance.md; then a million of bulk mail
bench:
	scripts/install bench
	bench/run
	bench/run send
	bench/run first
