# Every target works in .venv, which is made from PYTHON and constraints.txt and renewed when they or setup.cfg change.
PYTHON ?= python3
RUN := .venv/bin/python
READY := .venv/.ready
# MONAI Label's versions conflict with ours: its tests have an environment of their own.
LABEL_RUN := .venv-label/bin/python
LABEL_READY := .venv-label/.ready
LABEL_PINS := tests/label/requirements.txt

say = @printf '==> %s\n' $(1)
fail = { printf 'error: %s\n' $(1) >&2; exit 1; }

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help test lint test-slow test-data test-gpu test-network test-label require-data demo bench export clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-21s %s\n", $$1, $$2 }'

$(READY): setup.cfg pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || $(call fail,"$(PYTHON) is not on the PATH; name a Python >= 3.10: make PYTHON=python3.12 $(MAKECMDGOALS)")
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || $(call fail,"$(PYTHON) is not Python >= 3.10; name one: make PYTHON=python3.12 $(MAKECMDGOALS)")
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || $(call fail,"$(PYTHON) has no venv module; install it (Debian and Ubuntu: the package python3-venv)")
	$(call say,"making the environment .venv")
	@"$(PYTHON)" -m venv .venv
	$(call say,"installing torch (the largest download; takes minutes on a slow line)")
	@$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(call say,"installing ag-networks and what its tests and demo need (a few minutes)")
	@$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev,plot,post,dicom,track,video]'
	@touch $@

test: lint ## style, types, tests and the examples in the docstrings
	$(call say,"running the tests (pytest)")
	@$(RUN) -m pytest -q --doctest-modules ag_networks tests

lint: $(READY) ## style (ruff) and types (mypy)
	$(call say,"checking the style (ruff)")
	@$(RUN) -m ruff check .
	$(call say,"checking the types (mypy; a minute the first time)")
	@$(RUN) -m mypy

test-slow: $(READY) ## the tests that take long
	$(call say,"running the slow tests")
	@$(RUN) -m pytest tests -m "slow and not gpu and not network and not data and not label"

test-data: require-data $(READY) ## the tests on real data, in the folder AG_NETWORKS_DATA
	$(call say,"running the tests on real data")
	@$(RUN) -m pytest tests -m data

require-data:
	@test -n "$$AG_NETWORKS_DATA" || $(call fail,"set AG_NETWORKS_DATA to the folder of the real data (see CONTRIBUTING.md)")

test-gpu: $(READY) ## the tests that need a CUDA device
	$(call say,"running the tests that need a CUDA device")
	@$(RUN) -m pytest tests -m gpu

test-network: $(READY) ## the tests that download something
	$(call say,"running the tests that download something")
	@$(RUN) -m pytest tests -m network

$(LABEL_READY): setup.cfg pyproject.toml $(LABEL_PINS)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || $(call fail,"MONAI Label's versions need Python 3.11; name one: make PYTHON=python3.11 test-label")
	$(call say,"making the environment .venv-label")
	@"$(PYTHON)" -m venv .venv-label
	$(call say,"installing torch (the largest download; takes minutes on a slow line)")
	@$(LABEL_RUN) -m pip install --quiet --constraint $(LABEL_PINS) torch
	$(call say,"installing MONAI Label and what it needs (over a hundred packages; takes minutes)")
	@$(LABEL_RUN) -m pip install --quiet --no-deps --requirement $(LABEL_PINS)
	@$(LABEL_RUN) -m pip install --quiet --no-deps --editable .
	@touch $@

test-label: $(LABEL_READY) ## the bundles in MONAI Label, in an environment of its own
	$(call say,"running the bundles in MONAI Label (a few minutes)")
	@PYTHONPATH="$(CURDIR)/tests/label/without_torchvision_ops" $(LABEL_RUN) -m pytest tests/label -m label

demo: $(READY) ## two generated CT scans through the pancreas bundle; open demo_output/report.html
	$(call say,"running the demo; its results go to demo_output")
	@$(RUN) -m ag_networks.apps.demo --output demo_output

bench: $(READY) ## time and memory against the peers, on this machine
	$(call say,"measuring time and memory (takes minutes; keep the machine idle)")
	@$(RUN) benchmarks/speed.py

export: $(READY) ## TorchScript (models/model.ts) of every bundle
	@set -e; for weights in bundles/*/models/model.pt; do \
		test -f "$$weights" || $(call fail,"no bundle with models/model.pt yet"); \
		bundle=$${weights%/models/model.pt}; \
		printf '==> %s\n' "exporting $$bundle"; \
		(cd "$$bundle" && "$(CURDIR)/$(RUN)" -m monai.bundle ckpt_export network_def \
			--filepath models/model.ts --ckpt_file models/model.pt \
			--meta_file configs/metadata.json --config_file configs/inference.json); \
	done

clean: ## remove what the commands made, but keep the environments
	rm -rf build dist demo_output *.egg-info .mypy_cache .pytest_cache .ruff_cache bundles/*/eval bundles/*/models/*.ts
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
