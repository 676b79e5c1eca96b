# make run and make test need only make and a Python 3.11 to 3.13 with venv; they set up .venv themselves.
#     make run PYTHON=python3.12        another interpreter
#     make test TESTS="tests/storage"   some of the tests, in one process
#     make test JOBS=8                  all of them, in eight processes instead of two

PYTHON ?= python3
TESTS ?=
JOBS ?= 2
EXTRAS = tensorflow,samples,object-store,text,dev

.DEFAULT_GOAL := help
.PHONY: help setup run test test-frameworks lint bench clean

help:
	@echo "make setup   the environment only, in .venv"
	@echo "make run     sample images and reviews through everything; ends with the report's path"
	@echo "make test    lint, then the tests"
	@echo "make test-frameworks   the tests of batches for PyTorch and JAX, in an environment of their own"
	@echo "make lint    ruff and mypy"
	@echo "make bench   the figures that the README claims"
	@echo "make clean   remove .venv and what tools leave behind; runs/ stays"

setup: .venv/.stamp

# Made again when what it is made from has changed. Two makes at once: the second waits, then finds it done.
.venv/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "error: expected Python 3.11 to 3.13 (TensorFlow has no build for newer ones yet)," \
	    "found '$(PYTHON)' to be $$($(PYTHON) -V 2>/dev/null || echo missing); name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) comes without venv; install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@exec 9>.venv.lock; if command -v flock >/dev/null; then flock 9; fi; \
	if [ .venv/.stamp -nt pyproject.toml ] && [ .venv/.stamp -nt constraints.txt ]; then exit 0; fi; \
	echo "setting up .venv (some minutes the first time: TensorFlow is large)"; \
	{ [ -x .venv/bin/python ] || $(PYTHON) -m venv .venv; } && \
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[$(EXTRAS)]' --constraint constraints.txt && \
	touch .venv/.stamp

run: setup
	.venv/bin/duskflow run examples/samples.py --root runs

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: lint
	.venv/bin/python -m pytest $(or $(TESTS),-n $(JOBS) --dist loadfile)

# One after the other: PyTorch's tests fork, which JAX's threads do not survive.
test-frameworks: .venv-frameworks/.stamp
	.venv-frameworks/bin/python -m pytest tests/storage/test_adapters_torch.py
	.venv-frameworks/bin/python -m pytest tests/storage/test_adapters_jax.py
	KERAS_BACKEND=torch .venv-frameworks/bin/python -m pytest tests/storage/test_adapters_keras.py
	KERAS_BACKEND=jax .venv-frameworks/bin/python -m pytest tests/storage/test_adapters_keras.py

# PyTorch and JAX, over the packages of .venv.
.venv-frameworks/.stamp: .venv/.stamp constraints.txt
	@echo "setting up .venv-frameworks (PyTorch and JAX)"
	@.venv/bin/python -m venv .venv-frameworks
	@.venv/bin/python -c 'import sysconfig; print("import site; site.addsitedir({!r})".format(sysconfig.get_path("purelib")))' \
	  > "$$(.venv-frameworks/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/under.pth"
	@.venv-frameworks/bin/python -m pip install --quiet --disable-pip-version-check torch jax torchdata --constraint constraints.txt
	@touch .venv-frameworks/.stamp

bench: setup
	.venv/bin/python benchmarks/import_time.py
	.venv/bin/python benchmarks/keyed.py
	@echo "storage (needs the data and an empty folder): .venv/bin/python benchmarks/storage.py --folder bench"
	@echo "feeding (needs the data and an empty folder): .venv/bin/python benchmarks/feeding.py --folder bench"
	@echo "kill anything, 200 times: .venv/bin/python benchmarks/faults.py --runs 200"
	@echo "full size (10 minutes and more; needs the data): .venv/bin/python benchmarks/targets.py --root runs-full"

clean:
	rm -rf .venv .venv.lock .venv-frameworks .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
