# `make demo` and `make test` need nothing but Python 3.11, make, and root or an installed Apptainer.
PYTHON ?= python3
export PYTHON
# The tools that the set-up made come first, then whatever the machine has.
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.apptainer/bin:$(CURDIR)/.registry/bin
export PYTHONPATH := workflow
SHELL := /bin/bash

.PHONY: help setup demo run fetch test unit lint format lock config benchmarks clean

help: ## what there is to make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## both environments from their locks, and Apptainer where there is none
	@envs/install.sh
	@envs/install-apptainer.sh

demo: setup ## the whole DAG on this machine, then its tables
	@flock --nonblock --close --conflict-exit-code 75 Makefile $(MAKE) --no-print-directory run || \
	    { status=$$?; [ $$status -ne 75 ] || echo "another make demo is running in this folder" >&2; exit $$status; }

run:
	@[ -z "$$(ls -A .snakemake/locks 2>/dev/null)" ] || snakemake --profile local --unlock  # a killed run left its lock
	@snakemake --profile local all
	@swedag summary --run-dir results/demo

# The rules that need a network; jobs of the others may run on nodes without one.
NETWORK := tool_wheels tool_image fetch_source fetch_wheels fetch_dataset mirror os_image spec_environment registry_images base_model \
    restore_file restore_folder
CONFIG ?= config/paper.yaml

fetch: ## on a login node: what needs a network, before `snakemake --profile slurm all` (CONFIG=config/paper.yaml)
	@snakemake --profile slurm --executor local --cores 4 --configfile $(CONFIG) --until $(NETWORK)

test: setup lint ## every test: unit, workflow, and integration on real Apptainer, vLLM and TRL
	@envs/install-registry.sh
	@envs/install-slurm.sh
	@python -m pytest tests

unit: ## the tests that take seconds
	@python -m pytest tests/unit

lint: ## style and types
	@ruff check .
	@ruff format --check -q .
	@mypy
	@snakefmt --check workflow rules
	@snakemake --profile local --lint

format: ## rewrite the sources in house style
	@ruff format -q . && ruff check --fix -q . && snakefmt workflow rules

config: ## write the schema and config/README.md from the typed config
	@swedag config --schema workflow/schemas/config.schema.json --reference config/README.md

lock: ## resolve envs/*.in into the lock files
	@envs/lock.sh

benchmarks: setup ## planning the paper, sandboxes beside other systems', agent loops beside vLLM's, grading beside bare tests (after `make demo`; on a quiet machine)
	@python -m tests.benchmarks.plan_paper
	@python -m tests.benchmarks.sandbox_latency
	@python -m tests.benchmarks.rollout_throughput
	@python -m tests.benchmarks.grading_throughput

clean: ## everything that was made here, results too
	rm -rf .venv .venv-tools .apptainer .registry .snakemake results/*/ logs benchmarks
