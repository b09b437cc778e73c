# `make help` lists the commands. They need Python 3.11, make and, in a clone, git; everything else goes into .venv.
PYTHON ?= python3.11
BIN := .venv/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONUNBUFFERED=1 PYTHONUTF8=1
PORT ?= 5000
# DVC needs a user name, which a container's user may lack.
export USER := $(or $(USER),$(firstword $(shell id -un 2>/dev/null) nobody))
# `make image IMAGE=registry.example.com/team/bmask`; the engine gets BUILD_OPTIONS, pip in the build gets PIP_CONF.
IMAGE ?= localhost/bmask
ENGINE ?= $(shell command -v podman || command -v docker)
COMMA := ,
PIP_CONF ?= $(wildcard /etc/pip.conf)
GIT_SHA = $(shell git describe --always --abbrev=40 --dirty --exclude='*')
UV := $(BIN)/python tools/uv.py# runs uv with pip's index
LOCK = $(BIN)/uv pip compile --quiet --generate-hashes --python-version 3.11 --no-annotate --no-header pyproject.toml --extra serve --extra train

.DEFAULT_GOAL := help
.PHONY: help setup demo repro test test-slow lint bench ui serve wheel pipeline pipeline-containers image lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready ## create .venv and install the locked requirements

.venv/ready: requirements.txt requirements-dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not there; install Python 3.11 or say make PYTHON=python3.x"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.txt -r requirements-dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup repro ## run the whole pipeline on the embedded faces: some minutes
	@$(RUN) bmask champion show
	@echo "report:  results/report/evaluate/report.html"
	@echo "runs:    make ui      (http://127.0.0.1:$(PORT))"
	@echo "a page:  make serve   (http://127.0.0.1:5001)"

repro: setup ## dvc repro: run the stages that have changed
	@test -e .git || grep -qs no_scm .dvc/config.local || { \
	  echo "make: no .git here, as in an unpacked ZIP, so DVC goes without; after git init, remove .dvc/config.local"; \
	  $(RUN) dvc config --local core.no_scm true; }
	$(RUN) dvc repro

# One thread for each of the two workers: threads of both that wait for each other take several times as long.
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder

test: setup ## run the tests except the slow ones
	$(PYTEST) -m "not slow"

test-slow: setup ## run all tests
	$(PYTEST)

lint: setup ## check rules and format with ruff, types with mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## time training against the papers' step and translation against fp32: some minutes, on an idle machine
	$(BIN)/python benchmarks/all.py

ui: setup ## start the MLflow UI with losses, samples and models
	$(RUN) mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(PORT)

serve: export MLFLOW_TRACKING_URI ?= sqlite:///mlflow.db
serve: setup ## start a page and an HTTP server with the champion, or with the pretrained network if there is none
	$(RUN) bmask serve

wheel: setup ## build dist/bmask-*.whl for machines that only take masks off: with the networks, without PyTorch
	$(RUN) python tools/wheel.py

pipeline: setup ## compile the Kubeflow pipeline, run it here, and test it with a real S3 server
	$(RUN) bmask pipeline compile
	$(RUN) bmask pipeline run
	$(RUN) pytest tests/unit/test_pipeline_spec.py tests/e2e/test_submission_wire.py tests/e2e/test_round_trip.py

pipeline-containers: setup image ## run the pipeline in containers: docker, or podman with its socket in DOCKER_HOST
	BMASK_IMAGE=$(IMAGE):$(GIT_SHA) $(RUN) pytest tests/e2e/test_containers.py

image: ## build the container image, tagged with the commit
	@test -n "$(ENGINE)" || { echo "make: neither podman nor docker is there; install one or name it with ENGINE="; exit 1; }
	$(ENGINE) build --build-arg GIT_SHA=$(GIT_SHA) $(if $(PIP_CONF),--secret id=pip$(COMMA)src=$(PIP_CONF)) $(BUILD_OPTIONS) --tag $(IMAGE):$(GIT_SHA) .

lock: ## resolve versions and hashes of the image's requirements, then of those for development
	$(LOCK) -o requirements.txt
	$(LOCK) -o requirements-dev.txt --extra dev --constraint requirements.txt \
	  $$(sed -n 's/^\([a-z0-9.-]*\)==.*/--no-emit-package \1/p' requirements.txt)

clean: ## remove results, runs and checkpoints; .venv stays
	rm -rf results checkpoints mlruns mlartifacts mlflow.db
