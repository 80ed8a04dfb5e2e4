# `make help` lists the targets. Needed: make and Python 3.10 or later; 3.11 brings a server for the tests along.

# What makes the virtual environment: to change it, `make clean` first.
PYTHON ?= python3
VENV ?= .venv
# Of the compiled core. auto: build it if the compiler can; 0: do not; 1: it is an error if it cannot be built.
DRAMATIQ_ABORT_EXTENSION ?= auto
# Extra words: WITH for pip install (WITH='dramatiq==1.17.0'), ARGS for pytest (ARGS='-k shield').
WITH ?=
# The extras to install, and what else the tests need: gevent takes minutes where there is no wheel of it.
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
# The package once more, with a compiled core that tells which of its lines it runs.
traced := $(VENV)/.traced
# The package of the same name, in an environment of its own, to be compared with.
other := $(VENV)/.other
documenters := $(VENV)/.documenters
# One for each setting of the switch: another setting builds anew.
installed := $(VENV)/.installed-$(DRAMATIQ_ABORT_EXTENSION)
# The compiled core once more, beside the usual one, for it runs only where the sanitizers have been loaded first.
sanitized := $(VENV)/.sanitized
sanitizers := -fsanitize=address,undefined -fno-sanitize-recover=undefined
# What a build leaves behind, and what would find its way into the next one.
leftovers := build *.egg-info

.PHONY: help demo quick test test-all test-gevent coverage faults storm sanitize bench gate planted waits measure-waits record pictures \
	wheels docs lint types install clean

help:
	@echo "make demo     see messages being aborted, on workers and a server of its own"
	@echo "make quick    run what a change usually breaks, in under a minute"
	@echo "make test     run the whole suite (ARGS='-k shield': a part of it)"
	@echo "make test-all the same with every CPython and PyPy on this machine, and with the oldest dependencies"
	@echo "make test-gevent the same under gevent's monkey patching, where threads are greenlets"
	@echo "make coverage run the tests of the core and of messages with coverage, of Python and of the compiled core (Linux,"
	@echo "              CPython 3.12)"
	@echo "make faults   only what concerns servers and networks that fail, and workers that are killed"
	@echo "make storm    abort many thousands of messages at about their end, and count what must not happen"
	@echo "make sanitize run the tests of the compiled core and a storm under gcc's AddressSanitizer and UBSan (Linux)"
	@echo "make bench    measure what it costs, also to import, how long an abort takes, and how many workers one Redis"
	@echo "              can tell of it; beside dramatiq-abort 1.2.1, and write the table of docs/performance.md"
	@echo "make gate     see that this tree is not slower than where it left BASE=origin/main (Linux, with valgrind)"
	@echo "make planted  see that the gate finds what is made slower for it (SAME=20: and nothing in 20 runs without)"
	@echo "make waits    measure how long an abort takes in each kind of wait, with every interpreter, and write it down"
	@echo "make docs     build the documentation site into docs/_build/html; what it warns of is an error"
	@echo "make record   run the commands of docs/cli.md, and write down what they say"
	@echo "make pictures take the screenshots of docs/web.md again, with Chromium"
	@echo "make wheels   build the sdist and the wheels that this machine can build into dist/, and test each by itself"
	@echo "              (with Python 3.11 or later, as make lint)"
	@echo "make lint     check the style of everything, and what the workflows and cibuildwheel are told"
	@echo "make types    check the types, and that the compiled core's stub tells the truth"
	@echo "make install  only make $(VENV), with the package and the tests' tools in it"
	@echo "make clean    remove $(VENV) and everything else that was made here"
	@echo
	@echo "DRAMATIQ_ABORT_EXTENSION=1 insists on the compiled core, =0 does without."

demo: $(installed)
	@$(bin)/python examples/demo.py

# Plain pytest: `python -m pytest` would put the source tree, which has no compiled core, before what is installed.
test: $(installed)
	@$(bin)/pytest $(ARGS)

# What runs with every interpreter, less what is slow; in two processes, since tests wait as much as they compute.
quick: marked := not slow and not main_interpreter and not oldest_interpreter and not every_server and not newest_dependencies
quick: $(installed)
	@$(bin)/pytest --numprocesses 2 --dist loadfile -m '$(marked)' $(ARGS)

test-all: $(installed)
	@PYTHON="$(PYTHON)" VENV="$(VENV)" .ci/suite

# A script in tests/, so that the source tree is not in front of what is installed here either.
test-gevent: $(installed)
	@$(bin)/python tests/under_gevent.py $(ARGS)

# From where the .pyx stands beside its C code, or Cython's plugin finds neither. A test that crashes the traced core, or
# fails under a tracer, is marked.
coverage: run := ../bin/coverage
coverage: $(traced)
	@cd $(traced) && rm -f .coverage* && export COVERAGE_RCFILE=$(CURDIR)/pyproject.toml DRAMATIQ_ABORT_EXTENSION=1 PYTHONPATH=. && \
		{ $(run) run ../bin/pytest -c $(CURDIR)/pyproject.toml -m 'sanitized and not untraced and not slow' $(ARGS) \
		$(CURDIR)/tests; status=$$?; $(run) combine --quiet; $(run) report; exit $$status; }

faults: $(installed)
	@$(bin)/pytest $(ARGS) tests/faults

# The naive way is there to show that the counters count; that it ends with an error is as it should be.
storm: $(installed)
	@$(bin)/python tests/isolated/storm.py $(or $(ABORTS),20000) --rabbitmq
	@! $(bin)/python tests/isolated/storm.py 2000 --naive --rabbitmq 2>/dev/null || exit 1

# ASan sees what malloc hands out, so Python must not hand it on in pieces; and pytest must leave alone what ASan writes.
# Leaks are not its business here: the interpreter keeps much to its end, and what we might leak hangs in the lists of
# its collector. tests/test_memory.py counts instead.
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

# zizmor looks for what can be turned against us in a workflow; the schema is of what GitHub understands.
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
	@# Not from here, where the source tree would be in the way of what is installed.
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

# With -fwrapv, which is among CPython's own flags, no overflow is an error; and its headers' assertions are for us.
$(sanitized): $(installed)
	@rm -rf $(leftovers) $@
	@CC=gcc CFLAGS="$(sanitizers) -fno-wrapv -UNDEBUG -fno-omit-frame-pointer -g -O1" LDFLAGS="$(sanitizers)" \
		DRAMATIQ_ABORT_EXTENSION=1 $(pip) install --no-build-isolation --no-deps --target $@ .
	@rm -rf $(leftovers)
	@touch $@

# The tracing by sys.monitoring, from 3.13 on, is none that coverage's plugins hear of.
$(traced): $(installed)
	@rm -rf $@ && mkdir $@ && cp -R dramatiq_abort $@
	@$(pip) install --group coverage
	@cd $@ && CFLAGS="-O1 -DCYTHON_TRACE=1 -DCYTHON_USE_SYS_MONITORING=0" ../bin/cythonize --inplace -3 -X linetrace=True \
		dramatiq_abort/_interrupt.pyx >/dev/null
	@touch $@

$(tools): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or later is needed: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(pip) install --upgrade 'pip>=25.1'  # the first that knows --group
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
