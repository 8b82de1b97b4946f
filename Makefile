# The whole developer interface. Each target sets up what it needs.
.PHONY: help setup demo test check bench lab lock clean
UV = $(shell command -v uv || echo .cache/uv/bin/uv)
RUN = .venv/bin

help:            ## show this list
	@sed -n 's/^\([a-z]*\): *.*## /  make \1\t/p' $(MAKEFILE_LIST)

setup:           ## system packages, uv, the locked environment, the lab's environment
	@.ci/setup

demo: setup      ## the main job: weights to a measured service, on the embedded lab
	@$(RUN)/runbook run all --profile lab/tiny --approve auto

test:            ## set up, then every test
	@.ci/setup tests
	@$(RUN)/python -m pytest

check: setup     ## lint, types, import rules, notebook hygiene, lock freshness
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy
	@for folder in $(sort $(dir $(wildcard $(addprefix runbook_lib/,lab/builder/*.py lab/training/*.py lab/triton_models/*/*.py repository/skeleton_models/*/*.py repository/triton_models/*/*.py)))); do \
	    MYPYPATH=$$folder:runbook_lib/lab/builder $(RUN)/mypy --no-error-summary --explicit-package-bases $$folder*.py || exit 1; done
	@$(UV) lock --check --quiet
	@$(RUN)/python -m pytest -q tests/unit/test_house.py tests/unit/test_notebooks.py

bench: setup     ## benchmarks; results are recorded in tests/bench/results
	@$(RUN)/python tests/bench/run.py

lab: setup       ## start the lab and leave it up; prints how to open JupyterLab
	@$(RUN)/runbook lab up

lock: setup      ## renew the locks after a change of pyproject.toml, requirements.in or storage.in
	@$(UV) lock
	@for name in requirements cluster/image_files/storage; do \
	    $(UV) pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_35 \
	    --generate-hashes --no-annotate --no-header \
	    runbook_lib/lab/$$name.in -o runbook_lib/lab/$$name.txt || exit 1; done

clean:           ## remove environments and caches of this checkout
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
