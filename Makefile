# The commands of the project. Each does its own set-up and can be repeated; `make demo` and `make test` need Debian 12
# with Rust and Go and nothing else.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
target := $(or $(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help setup demo test proof benchmark size image sbom licenses check format lint imports generated dependencies advisories

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1 - \2/p' Makefile

setup: ## Install and build what is missing, once
	@scripts/setup.sh

demo: setup ## Watch leases live and end, on a real control plane and a real Postgres (ARGS=--keep to play on)
	@echo "Building the operator and the demo (minutes the first time, then seconds)."
	@cargo build --quiet --workspace --bins
	@$(target)/debug/demo --operator $(target)/debug/environment-operator $(ARGS)

test: setup ## Run every test
	@scripts/test.sh

proof: setup ## Minutes of leases of all kinds under an operator that is killed at random (TEST_SEED=... to repeat)
	@cargo test --workspace --test cluster -- --ignored --nocapture random::

benchmark: setup ## What leases cost beside bare calls, and a grant beside a busy company, as ratios (BENCHMARK_LEASES=1000, BENCHMARK_DUE=5000; builds for release, minutes)
	@cargo test --release --workspace --test cluster -- --ignored --nocapture benchmark::

size: setup ## Memory and processor time of leader and follower, up to 10,000 leases; memory of a list of huge objects (builds for release, many minutes)
	@cargo test --release --workspace --test cluster -- --ignored --nocapture size::
	@cargo test --release --workspace --lib -- --ignored --nocapture of_full_size

image: setup ## Lay out what the image holds in target/image and try it in an empty root (as root; builds for release, minutes)
	@scripts/image.sh $(target)/image
	@TEST_IMAGE=$(abspath $(target)/image) cargo test --workspace --test cluster -- --ignored --nocapture image::
	@du --bytes --summarize $(target)/image/*

sbom: ## The bill of materials of the binary (CycloneDX), into target/SBOM.cdx.json
	@scripts/sbom.sh $(target)/SBOM.cdx.json

licenses: ## The licences of all crates, those of the tests among them
	@scripts/cargo-tool.sh deny list --layout crate

check: format lint imports generated dependencies ## Hold the code to the rules of the house

format: ## Formatting
	@cargo fmt --all --check

lint: ## Clippy, warnings are errors
	@cargo clippy --workspace --all-targets --quiet -- --deny warnings

imports: ## Imports run one way
	@cargo test --quiet --workspace --test house

generated: ## Generated files are what the code generates
	@cargo test --quiet --workspace --test api generated

dependencies: ## Licences, sources and bans of the dependencies
	@scripts/cargo-tool.sh deny check licenses sources bans

advisories: ## Known vulnerabilities of the dependencies (fetches their database)
	@scripts/cargo-tool.sh deny check advisories
