# Set-up, training, tests. `make help` lists the targets.

CONFIG ?= configs/montezuma.gin
ROOT_DIR ?= runs/$(basename $(notdir $(CONFIG)))
ARGS ?=
WORKERS ?= 1
RESTARTS ?= 0
POLICY ?= pretrained/montezuma
FILM ?= $(notdir $(POLICY)).mp4
PYTEST_ARGS ?= -n 2 --dist loadfile
# Files whose tests build no networks and train nothing.
FAST_TESTS := tests/learning/test_returns.py tests/learning/test_losses.py \
  $(addprefix tests/settings/test_,gin_files.py config_changes.py \
    parameters.py) tests/runs/test_tables.py tests/runs/test_run_folder.py \
  tests/environments/test_wrappers.py tests/viewing/test_aggregate.py
# The interpreter of the set-up; empty: the first on the PATH that fits.
PYTHON ?=

VENV := .venv
BIN := $(VENV)/bin
# On Python 3.12 and later TF-Agents would be said to conflict, see setup.py.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
  --no-warn-conflicts

.DEFAULT_GOAL := help
.PHONY: help train play test test-slow test-fast lint bench clean
.DELETE_ON_ERROR:

help:
	@echo 'make train [CONFIG=configs/montezuma.gin] [ROOT_DIR=runs/montezuma]'
	@echo '           [ARGS="..."]     train, or continue the run in ROOT_DIR;'
	@echo '           [WORKERS=2] [RESTARTS=9]  in processes that train'
	@echo '                            together, started again when one is lost'
	@echo 'make play  [POLICY=pretrained/montezuma] [FILM=montezuma.mp4]'
	@echo '           [ARGS="..."]     film an episode of a trained policy'
	@echo 'make test  [PYTEST_ARGS=..] run the tests, some minutes'
	@echo 'make test-slow              run those that take long: trainings,'
	@echo '                            killed processes, recurrent cores'
	@echo 'make test-fast              run those without networks, half a minute'
	@echo 'make lint                   check the style'
	@echo 'make bench [ARGS="--json"]  measure the training speed'
	@echo 'make clean                  remove caches and builds, never runs'
	@echo 'The first of these sets up $(VENV) with Python 3.10 to 3.13'
	@echo '(PYTHON=/path/to/python chooses one).'

train: $(VENV)/.installed
	@$(BIN)/python train_eval.py --gin_file='$(CONFIG)' \
	  --root_dir='$(ROOT_DIR)' --workers='$(WORKERS)' \
	  --restarts='$(RESTARTS)' $(ARGS)

play: $(VENV)/.installed
	@$(BIN)/python play.py --root_dir='$(POLICY)' --video='$(FILM)' $(ARGS)

test: $(VENV)/.installed-test
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m 'not slow' tests

test-slow: $(VENV)/.installed-test
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m slow tests

test-fast: $(VENV)/.installed-test
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m 'not slow' $(FAST_TESTS)

lint: $(VENV)/.installed-lint
	@$(BIN)/python -m ruff check .

bench: $(VENV)/.installed
	@$(BIN)/python benchmarks/throughput.py $(ARGS)

clean:
	@rm -rf build dist .pytest_cache .ruff_cache
	@find . \( -path ./$(VENV) -o -path ./runs -o -path ./.git \) -prune -o \
	  -name __pycache__ -type d -prune -exec rm -rf {} +

CANDIDATES := python3.11 python3.10 python3.13 python3.12 python3 python \
  /usr/bin/python3.11 /usr/bin/python3.10 /usr/bin/python3.13 \
  /usr/bin/python3.12 /usr/bin/python3
FITS := "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))"
# There TF-Agents is installed without its dependencies, see setup.py.
IS_NEWER := "import sys; sys.exit(sys.version_info[:2] < (3, 12))"

# Finds the first interpreter that fits. Each candidate is run, since a name on
# the PATH may be a launcher without an interpreter behind it.
define FIND_PYTHON
lacking=; \
for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
  $$candidate -c $(FITS) >/dev/null 2>&1 || continue; \
  if $$candidate -c 'import ensurepip, venv' >/dev/null 2>&1; then \
    found=$$candidate; break; \
  fi; \
  lacking="$$lacking $$candidate"; \
done; \
if [ -z "$$found" ] && [ -n "$$lacking" ]; then \
  echo "error:$$lacking cannot create virtual environments (no ensurepip):" \
    "install its venv package (Debian and Ubuntu: python3-venv)" >&2; \
  exit 1; \
elif [ -z "$$found" ]; then \
  echo "error: no Python 3.10 to 3.13 among: $(or $(PYTHON),$(CANDIDATES)):" \
    "install one, or name it with PYTHON=/path/to/python3.13" >&2; \
  exit 1; \
fi
endef

# A stamp per set of requirements, redone when setup.py changes. The tool sets
# build on the plain one, so that a change of target adds and never reinstalls.
$(VENV)/.installed: setup.py requirements-no-deps.txt
	@if ! { $(BIN)/python -c $(FITS) && $(BIN)/python -m pip --version; } \
	    >/dev/null 2>&1; then \
	  found=; $(FIND_PYTHON); \
	  echo "setting up $(VENV) with $$($$found --version);" \
	    "the first time takes some minutes"; \
	  $$found -m venv --clear $(VENV); \
	fi
	@$(PIP_INSTALL) -e .
	@if $(BIN)/python -c $(IS_NEWER); then \
	  $(PIP_INSTALL) --no-deps -r requirements-no-deps.txt; \
	fi
	@touch $@

# Super Mario's emulator is built from source: its tests are skipped where it
# cannot be, so that no machine needs a C++ compiler to run the others.
$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP_INSTALL) -e '.[test]'
	@if ! command -v g++ >/dev/null 2>&1; then \
	  echo 'note: there is no g++, which builds nes-py: the tests of' \
	    'Super Mario are skipped' >&2; \
	elif ! $(PIP_INSTALL) -e '.[mario]'; then \
	  echo 'note: nes-py could not be built, as said above: the tests of' \
	    'Super Mario are skipped' >&2; \
	fi
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@$(PIP_INSTALL) -e '.[$*]'
	@touch $@
