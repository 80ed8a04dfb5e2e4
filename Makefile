# `make help` lists the targets. Requires make and Python 3.10 or later; from 3.11 on, it installs a test server.

# The interpreter of the virtual environment: run `make clean` before changing it.
PYTHON ?= python3
VENV ?= .venv
# Whether to build the compiled core. auto: if a compiler works; 0: no; 1: yes, and a failure to build it is an error.
DRAMATIQ_ABORT_EXTENSION ?= auto
# Extra arguments: WITH for pip install (WITH='dramatiq==1.17.0'), ARGS for pytest (ARGS='-k shield').
WITH ?=
# The extras and dependency groups to install. Building gevent takes minutes where it has no wheel.
EXTRAS ?= redis,gevent,cli,web
NEEDS ?= dev browser databases examples libraries
ARGS ?=

export DRAMATIQ_ABORT_EXTENSION

bin := $(VENV)/bin
pip := $(bin)/python -m pip --disable-pip-version-check -qq
package := $(shell find dramatiq_abort -name '*.py' -o -name '*.pyx' -o -name '*.px[di]' -o -name '*.h' -o -name '*.pyi' -o -name py.typed) \
	$(wildcard dramatiq_abort/web/static/* dramatiq_abort/web/templates/*)
tools := $(VENV)/.tools
linters := $(VENV)/.linters
wheelers := $(VENV)/.wheelers
benchers := $(VENV)/.benchers
# A second copy of the package, whose compiled core reports the lines it runs.
traced := $(VENV)/.traced
# dramatiq-abort 1.2.1 in a separate environment, for comparison.
other := $(VENV)/.other
documenters := $(VENV)/.documenters
# One marker per value of DRAMATIQ_ABORT_EXTENSION: another value causes a new build.
installed := $(VENV)/.installed-$(DRAMATIQ_ABORT_EXTENSION)
# A second build of the compiled core, kept separate because it runs only with the sanitizers loaded first.
sanitized := $(VENV)/.sanitized
sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=undefined
# What a build leaves behind; the next build would pick it up.
leftovers := build *.egg-info

.PHONY: help demo quick test test-all test-gevent coverage faults storm sanitize bench gate planted waits measure-waits record pictures \
	wheels docs lint types install clean

help:
	@echo "make demo     show messages being aborted, with its own workers and server"
	@echo "make quick    run the tests that a change usually breaks, in under a minute"
	@echo "make test     run the whole suite (ARGS='-k shield': part of it)"
	@echo "make test-all run it with every CPython and PyPy on this machine, and with the oldest dependencies"
	@echo "make test-gevent run it under gevent's monkey patching, where threads are greenlets"
	@echo "make coverage run the tests of the core and of messages, and measure their coverage of the Python code and the"
	@echo "              compiled core (Linux, CPython 3.12)"
	@echo "make faults   run only the tests of failing servers and networks, and of killed workers"
	@echo "make storm    abort many thousands of messages around the moment they end, and count violations"
	@echo "make sanitize run the tests of the compiled core and a storm under gcc's AddressSanitizer and UBSan (Linux)"
	@echo "make bench    measure the costs, import time included, the latency of aborts, and how many workers one Redis"
	@echo "              can notify; compare with dramatiq-abort 1.2.1, and write the table of docs/performance.md"
	@echo "make gate     check that this tree is not slower than where it branched off BASE=origin/main (Linux, valgrind)"
	@echo "make planted  check that the gate finds deliberate slowdowns (SAME=20: that it finds none in 20 runs without)"
	@echo "make waits    measure how long an abort takes in each kind of wait, with all interpreters, and write docs/waits.md"
	@echo "make docs     build the documentation site into docs/_build/html; warnings are errors"
	@echo "make record   run the commands of docs/cli.md, and update their output"
	@echo "make pictures retake the screenshots of docs/web.md, with Chromium"
	@echo "make wheels   build the sdist and the wheels that this machine can build into dist/, and test each separately"
	@echo "              (Python 3.11 or later, as for make lint)"
	@echo "make lint     check the style of everything, the workflows, and the configuration of cibuildwheel"
	@echo "make types    check the types, and that the stub of the compiled core matches it"
	@echo "make install  create $(VENV) with the package and the tools of the tests"
	@echo "make clean    remove $(VENV) and everything else that was built"
	@echo
	@echo "DRAMATIQ_ABORT_EXTENSION=1 requires the compiled core, =0 leaves it out."

demo: $(installed)
	@$(bin)/python examples/demo.py

# Plain pytest: `python -m pytest` would import the source tree, which has no compiled core, not the installed package.
test: $(installed)
	@$(bin)/pytest $(ARGS)

# The tests for every interpreter, without the slow ones. Two processes, because tests wait as much as they compute.
quick: marked := not slow and not main_interpreter and not oldest_interpreter and not every_server and not newest_dependencies
quick: $(installed)
	@$(bin)/pytest --numprocesses 2 --dist loadfile -m '$(marked)' $(ARGS)

test-all: $(installed)
	@PYTHON="$(PYTHON)" VENV="$(VENV)" .ci/suite

# The script is in tests/, so that the source tree does not precede the installed package here either.
test-gevent: $(installed)
	@$(bin)/python tests/under_gevent.py $(ARGS)

# Run where the .pyx is next to its C code, or else Cython's plugin finds neither. Tests that crash the traced core, or
# fail under a tracer, are marked.
coverage: run := ../bin/coverage
coverage: $(traced)
	@cd $(traced) && rm -f .coverage* && export COVERAGE_RCFILE=$(CURDIR)/pyproject.toml DRAMATIQ_ABORT_EXTENSION=1 PYTHONPATH=. && \
		{ $(run) run ../bin/pytest -c $(CURDIR)/pyproject.toml -m 'sanitized and not untraced and not slow' $(ARGS) \
		$(CURDIR)/tests; status=$$?; $(run) combine --quiet; $(run) report; exit $$status; }

faults: $(installed)
	@$(bin)/pytest $(ARGS) tests/faults

# The naive implementation shows that the counters work: it must end with an error.
storm: $(installed)
	@$(bin)/python tests/isolated/storm.py $(or $(ABORTS),20000) --rabbitmq
	@! $(bin)/python tests/isolated/storm.py 2000 --naive --rabbitmq 2>/dev/null || exit 1

# ASan tracks what malloc allocates, so Python must not divide it among its own allocations; and pytest must not capture
# ASan's output. Leaks are not detected: the interpreter keeps much memory until its end, and objects that we might leak
# are still referenced by the lists of its collector. tests/test_memory.py counts instead.
sanitize: watched := env LD_PRELOAD="$$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 \
	UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc PYTHONPATH=$(sanitized) DRAMATIQ_ABORT_EXTENSION=1
sanitize: $(sanitized)
	@$(watched) $(bin)/pytest --capture=sys -m sanitized -k cython $(ARGS)
	@$(watched) $(bin)/python tests/isolated/storm.py $(or $(ABORTS),5000)

waits: $(installed)
	@TARGET=measure-waits PYTHON="$(PYTHON)" VENV="$(VENV)" .ci/suite | $(bin)/python benchmarks/waits.py --write docs/waits.md

measure-waits: $(installed)
	@$(bin)/python benchmarks/waits.py

bench: $(installed) $(benchers) $(other)
	@$(bin)/pytest --quiet --override-ini pythonpath=benchmarks benchmarks/test_core.py --benchmark-sort=min \
		--benchmark-columns=min,median,iqr,rounds --benchmark-max-time=0.5
	@$(bin)/python benchmarks/ratios.py
	@$(bin)/python benchmarks/abort_latency.py $(or $(ABORTS),100)
	@$(bin)/python benchmarks/import_time.py
	@$(bin)/python benchmarks/cost.py $(other)/bin/python
	@$(bin)/python benchmarks/instructions.py
	@$(bin)/python benchmarks/bulk.py
	@$(bin)/python benchmarks/sync.py
	@$(bin)/python benchmarks/scale.py
	@$(bin)/python benchmarks/inspection.py
	@$(bin)/python benchmarks/side_by_side.py $(other)/bin/python --write

docs: $(installed) $(documenters)
	@$(bin)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going \
		--doctree-dir docs/_build/doctrees docs docs/_build/html

pictures: $(installed)
	@$(pip) install --group pictures
	@$(bin)/python docs/web_pictures.py

gate: $(installed)
	@$(bin)/python benchmarks/gate.py --base $(or $(BASE),origin/main)

planted: $(installed)
	@$(bin)/python benchmarks/planted.py $(addprefix --same ,$(SAME))

record: $(installed)
	@$(bin)/python docs/record_cli.py --write

wheels: $(wheelers)
	@rm -rf $(leftovers) dist
	@PYTHON="$(PYTHON)" $(bin)/python .ci/wheels.py
	@rm -rf $(leftovers)

# zizmor finds security holes in workflows; the schema describes the workflows that GitHub accepts.
lint: $(linters)
	$(bin)/ruff check --quiet --output-format=concise
	$(bin)/ruff format --quiet --check
	PATH="$(abspath $(bin)):$$PATH" cython-lint dramatiq_abort dramatiq_abort/_*/*.pxi
	$(bin)/python .ci/wheel_names.py
	$(bin)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*
	$(bin)/check-jsonschema --quiet --builtin-schema vendor.readthedocs .readthedocs.yaml
	$(bin)/zizmor --quiet --offline .github/workflows
	.ci/actionlint $(VENV)/.actionlint .github/workflows/*

types: $(installed) $(linters)
	$(bin)/mypy
	@# Not from here, where the source tree would hide the installed package.
	cd $(VENV) && $(abspath $(bin))/stubtest dramatiq_abort._interrupt
	PATH="$(abspath $(bin)):$$PATH" basedpyright --verifytypes dramatiq_abort --ignoreexternal

install: $(installed)

$(installed): $(tools) setup.py MANIFEST.in README.md LICENSE $(package)
	@rm -rf $(leftovers) $(VENV)/.installed-*
	@$(pip) install --no-build-isolation '.[$(EXTRAS)]' $(WITH)
	@rm -rf $(leftovers)
	@$(bin)/python -I -c 'from dramatiq_abort.interrupt import IMPLEMENTATION as core; \
		print("Installed in $(VENV), with the core in", core.capitalize())'
	@touch $@

# CPython's own flags include -fwrapv, with which no overflow is an error, and NDEBUG, which removes its assertions.
$(sanitized): $(installed)
	@rm -rf $(leftovers) $@
	@CC=gcc CFLAGS="$(sanitizers) -fno-wrapv -UNDEBUG -fno-omit-frame-pointer -g -O1" LDFLAGS="$(sanitizers)" \
		DRAMATIQ_ABORT_EXTENSION=1 $(pip) install --no-build-isolation --no-deps --target $@ .
	@rm -rf $(leftovers)
	@touch $@

# From 3.13 on, Cython traces by sys.monitoring, which coverage's plugins do not support.
$(traced): $(installed)
	@rm -rf $@ && mkdir $@ && cp -R dramatiq_abort $@
	@$(pip) install --group coverage
	@cd $@ && CFLAGS="-O1 -DCYTHON_TRACE=1 -DCYTHON_USE_SYS_MONITORING=0" ../bin/cythonize --inplace -3 -X linetrace=True \
		dramatiq_abort/_interrupt.pyx >/dev/null
	@touch $@

$(tools): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or later is needed: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(pip) install --upgrade 'pip>=25.1'  # the first version with --group
	@$(pip) install $(addprefix --group ,$(NEEDS))
	@touch $@

$(linters): $(tools)
	@$(pip) install --group lint
	@touch $@

$(other): $(tools)
	@$(PYTHON) -m venv $@
	@$@/bin/python -m pip --disable-pip-version-check -qq install dramatiq-abort==1.2.1 dramatiq redis
	@touch $@

$(wheelers): $(tools)
	@$(pip) install --group build --group wheels
	@touch $@

$(benchers): $(tools)
	@$(pip) install --group bench
	@touch $@

$(documenters): $(tools)
	@$(pip) install --group docs
	@touch $@

clean:
	rm -rf $(VENV) $(leftovers) dist docs/_build .hypothesis .benchmarks .*_cache
	find [!.]*/ \( -name __pycache__ -o -name '*.so' -o -name '*.c' \) -prune -exec rm -rf {} +
