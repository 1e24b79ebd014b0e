# What a person types: run, test, lint, soak, bench. Each sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= config/pacs_config.yaml
unexport PYTHONDONTWRITEBYTECODE # a server that compiles itself at each start takes half as long again

.PHONY: run test coverage lint soak bench debian schema clean

run: $(VENV)/.installed
	$(BIN)/twistd -n --pidfile= productionpacs --config $(CONFIG)

# what durability and limits are measured by runs last and by itself: nothing is beside it
test: debian lint
	@status=0; \
	$(BIN)/python -m pytest -m "not soak" -n 2 --dist loadfile --ignore=tests/durability || status=1; \
	$(BIN)/python -m pytest -m "not soak" tests/durability || status=1; \
	exit $$status

# PACS_COVERAGE: the servers that tests start are measured too, but for those of tests/durability. It takes twice as long
coverage: debian $(VENV)/.installed-dev
	PACS_COVERAGE=1 $(BIN)/python -m pytest -m "not soak" --cov --cov-report=term:skip-covered

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy pacs tests bench
	$(BIN)/lint-imports

soak: debian $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "soak or not soak" -k "soak or durability" -s

bench: debian $(VENV)/.installed-dev
	$(BIN)/python -m bench
	$(BIN)/python -m bench.tls
	$(BIN)/python -m bench.rest

schema: $(VENV)/.installed-dev
	$(BIN)/python -m pacs.config.documents config

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable . --config-settings editable_mode=compat
	touch $@

$(VENV)/.installed-dev: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --config-settings editable_mode=compat
	touch $@ $(VENV)/.installed

# Debian's tools that the tests and benchmarks drive; installed when this is root and something is missing
debian:
	@missing=""; for tool in storescu:dcmtk strace:strace Orthanc:orthanc rsyslogd:rsyslog promtool:prometheus; do \
	  command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	ls /usr/lib/*/rsyslog/lmnsd_ossl.so >/dev/null 2>&1 || missing="$$missing rsyslog-openssl"; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; \
	    for service in orthanc prometheus prometheus-node-exporter; do service $$service stop >/dev/null 2>&1 || true; done; \
	  else echo "missing:$$missing; install them with your package manager"; exit 1; fi; fi

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
