# The only commands that anyone types. `make help` lists them.
SHELL := /bin/bash
SEEDS ?= 2000
SECONDS_PER_TARGET ?= 20
TARGET := x86_64-unknown-linux-gnu
# Static binaries for the host's own libc; the explicit target keeps build scripts dynamic.
STATIC := KUBE_VIP_BUILD=$(shell git rev-parse --short HEAD 2>/dev/null || echo unknown) RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target $(TARGET)
BINARY := target/$(TARGET)/release/kube-vip

.PHONY: help demo test check sim lab bench bless fuzz judges image build packages

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

demo: packages build lab-build ## three nodes hold a VIP through five faults, and a Service with two pods, live and measured (KEEP=1 leaves it up)
	KUBE_VIP_BIN=$(BINARY) target/debug/lab demo $(if $(KEEP),--keep)

test: packages ## every rung of the test ladder
	./scripts/test.sh

check: ## formatting, lints, borders
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo xtask layers

sim: ## the simulator: SEEDS=20000 runs of ten simulated minutes; SIM="--without-services", "--go-on", "--episodes 1000"
	cargo run --quiet --profile sim --locked -p vip-sim --bin sim -- --seeds $(SEEDS) $(SIM)

lab: packages build lab-build ## all lab scenarios with the real binary
	KUBE_VIP_BIN=$(BINARY) target/debug/lab run --mode session all
	KUBE_VIP_BIN=$(BINARY) target/debug/lab run --mode lease all

bench: packages-peers build lab-build lab-fast ## the figures of the README (ONLY=services: those of Services alone)
	$(if $(filter services,$(ONLY)),@true,KUBE_VIP_BIN=$(BINARY) target/debug/lab bench session --runs $(or $(RUNS),3))
	$(if $(filter services,$(ONLY)),@true,KUBE_VIP_BIN=$(BINARY) target/debug/lab bench lease --runs $(or $(RUNS),12))
	KUBE_VIP_BIN=$(BINARY) target/sim/lab bench services
	cargo run --quiet --release --locked -p vip-plan --example plan_bench
	$(if $(filter services,$(ONLY)),@true,$(MAKE) --no-print-directory bench-simulator)

.PHONY: bench-simulator
bench-simulator:
	cargo run --quiet --profile sim --locked -p vip-sim --bin sim -- --seeds 200

bless: ## rewrite golden files from what the code does now; read the difference before you commit it
	BLESS=1 cargo test --locked -p kube-vip -p vip-plan -p vip-agent

fuzz: ## every fuzz target for SECONDS_PER_TARGET seconds
	./fuzz/run.sh $(SECONDS_PER_TARGET)

judges: ## build the real kube-apiserver, etcd and an elector with client-go from their Go modules (5 minutes, needs Go)
	./judges/build.sh

build: ## the static release binary
	$(STATIC) -p kube-vip
	@ls -l $(BINARY) | awk '{printf "%s: %.1f MiB\n", $$9, $$5/1048576}'

image: build ## a container image from scratch, with what is installed (buildah, podman or docker)
	./scripts/image.sh $(BINARY)

# Thousands of Services must wait for the agent and not for the lab's API server.
.PHONY: lab-fast
lab-fast:
	cargo build --profile sim --locked -p vip-lab --bin lab

.PHONY: lab-build
lab-build:
	cargo build --locked -p vip-lab --bin lab

packages:
	@./scripts/packages.sh

.PHONY: packages-peers
packages-peers:
	@./scripts/packages.sh peers
