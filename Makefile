# What people and pipelines do with millrace; `make help` says what there is.

.DEFAULT_GOAL := help
.PHONY: help setup demo cni image test cluster-test bench cluster-bench old-kernel cluster crds manifests conformance alerts fuzz lint format clippy doc fmt clean

# A pipeline builds what is committed, to the version.
locked := $(if $(CI),--locked)

# Namespaces and AF_XDP need root, compiling does not: cargo builds as whoever runs make, and hands
# what it has built to sudo.
ifneq ($(shell id -u),0)
ifneq ($(shell command -v sudo),)
as_root := --config 'target."cfg(unix)".runner = ["$(CURDIR)/scripts/as-root"]'
else
unprivileged := neither root nor sudo: network namespaces cannot be made
endif
endif

help: ## this list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and running need, if it is not there
	@scripts/setup

demo: setup ## nodes, pods and filters on this machine, explained as they run
	$(if $(unprivileged),$(error $(unprivileged)))
	cargo run $(locked) $(as_root) --release --package millrace -- demo

cni: setup ## the CNI plugin as one static file, millrace-cni in cargo's target folder
	cargo rustc $(locked) --release --package millrace --bin millrace-cni -- \
		-C target-feature=+crt-static

test: setup ## all tests; those of a real cluster where there can be one
	$(if $(unprivileged),$(warning $(unprivileged), and tests in them are not run))
	$(if $(no_cluster),$(if $(CI),$(error $(no_cluster)),$(warning no test of a cluster: $(no_cluster))))
	cargo test $(locked) $(as_root) --release --workspace
	$(if $(no_cluster),,$(MAKE) --no-print-directory cluster-test)

no_cluster = $(shell tests/cluster/obstacle)
cluster-test: image
	tests/cluster/test $(target)/millrace.tar

bench: setup ## measure; QUICK=1 for a first impression
	$(if $(unprivileged),$(error $(unprivileged)))
	cargo build $(locked) --release --package millrace
	cargo run $(locked) $(as_root) --release --package millrace-bench -- $(if $(QUICK),--quick)

cluster_benches := cluster-pods,cluster-containers,cluster-changes,cluster-agents
cluster-bench: image ## measure in clusters: with millrace, and with other networks; needs Go; QUICK=1 as above
	cargo run $(locked) $(as_root) --release --package millrace-bench -- \
		--only $(cluster_benches) --image $(target)/millrace.tar $(if $(QUICK),--quick)

old-kernel: setup ## the flow cache's tests on Debian 12's own Linux 6.1, in a virtual machine
	scripts/old-kernel

# what is in an image finds no libraries there
target = $(shell cargo metadata --no-deps --format-version=1 | jq --raw-output .target_directory)
image: cni ## an image of millrace, and the lines that import and push it
	$(if $(unprivileged),$(error $(unprivileged)))
	cargo rustc $(locked) --release --package millrace --bin millrace -- \
		-C target-feature=+crt-static
	scripts/image $(target)/millrace.tar $(target)/release/millrace $(target)/release/millrace-cni

cluster: image ## two nodes of a real Kubernetes here, with millrace as their network; needs Go
	tests/cluster/up $(target)/millrace.tar
	set -e; for part in check check-it ask status application; do tests/cluster/$$part; done

crds: ## write deploy/crds, of the types that agents read objects with
	cargo run $(locked) --release --package millrace-kube --example definitions -- deploy/crds

manifests: ## write deploy/millrace.yaml and cleanup.yaml, which the Helm chart gives; needs Go
	tests/cluster/chart --write

conformance: ## what Kubernetes' own tests say of the network of that cluster, while it is up
	tests/cluster/conformance

alerts: ## check the alert rules
	scripts/setup alerts
	promtool check rules deploy/prometheus/rules.yaml
	promtool test rules deploy/prometheus/rules.test.yaml

SECONDS ?= 60
fuzz: setup ## look for input that breaks parsers, SECONDS=60 for each of them
	scripts/fuzz --seconds $(SECONDS)

lint: format clippy doc ## formatting, clippy, documentation

format:
	cargo fmt --all --check

clippy: setup
	cargo clippy $(locked) --release --workspace --all-targets -- -D warnings

doc: setup
	RUSTDOCFLAGS='-D warnings' cargo doc $(locked) --release --workspace --no-deps

fmt: ## format the code
	cargo fmt --all

clean: ## remove what was built
	cargo clean
