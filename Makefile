# Everything runs in its own virtual environment, .venv, which each target makes when it is not there.
.DEFAULT_GOAL := help
.PHONY: help venv reproduce record audit rehearse search figures notebooks models site test bench lint clean

PYTHON ?= python3
PROFILE ?= embedded
# empty: as many processes as there are cores, 8 at most
JOBS ?=
# empty: a slice for `reproduce`, every seed for `record`
SEEDS ?=
# empty: the default of splitkit/reproduce.py; MODEL:CONCEPT:SEED, as in tiny-gemma2:axbench/music:0
SLICE ?=
MODEL ?=
CELLS ?= 12
BIN := .venv/bin
INSTALLED := .venv/.installed

# One thread per process: results repeat bit for bit, and processes side by side do not wait for each other.
export OMP_NUM_THREADS := 1
# glibc's allocator keeps the memory of freed tensors for the next ones (see splitkit/runs/engines.py).
export MALLOC_TRIM_THRESHOLD_ := 268435456
export MALLOC_MMAP_THRESHOLD_ := 33554432
export TOKENIZERS_PARALLELISM := false
# The debugger's remark on frozen modules has nothing to say to a reader.
export PYDEVD_DISABLE_FILE_VALIDATION := 1

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(INSTALLED)  ## make .venv and install the versions of requirements.lock (Python 3.11 or newer)

$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'installing into .venv the versions of requirements.lock (a few minutes the first time)'
	$(BIN)/python -m pip install -qq --constraint requirements.lock --editable '.[dev]'
	@touch $@

REPRODUCE = $(BIN)/python -m splitkit.reproduce --profile $(PROFILE) $(if $(MODEL),--model $(MODEL)) $(if $(JOBS),--jobs $(JOBS))

reproduce: $(INSTALLED)  ## compute a slice anew (SLICE names another), run the notebooks, redraw the figures, end with the verdicts
	$(REPRODUCE) $(if $(SLICE),--slice $(SLICE)) $(if $(SEEDS),--seeds $(SEEDS))

record: $(INSTALLED)  ## compute everything anew, all seeds (or the first SEEDS); a killed run goes on where it was
	$(REPRODUCE) --seeds $(or $(SEEDS),all)

audit: $(INSTALLED)  ## compute CELLS cells of the record, drawn by lot, anew and compare (12: about a minute)
	$(BIN)/python -m splitkit.audit --profile $(PROFILE) --cells $(CELLS) $(if $(DRAW),--draw $(DRAW)) $(if $(JOBS),--jobs $(JOBS))

# Stand-ins: random models with the real vocabularies, the real data files in DATA, a judge on this machine.
rehearse: $(INSTALLED)  ## all of the paper's profile in small, on stand-ins for its models; DATA: a folder of the data files
	$(BIN)/python -m tests.standins build/rehearsal --data $(DATA)

search: $(INSTALLED)  ## choose the training settings of PROFILE (tiny or small): what is missing of every objective's trials
	$(BIN)/python -m splitkit.runs.search --profile $(if $(filter embedded,$(PROFILE)),tiny,$(PROFILE)) $(if $(JOBS),--jobs $(JOBS))

figures: $(INSTALLED)  ## redraw figures and tables from the committed results (about a minute)
	$(BIN)/python -m splitkit.reproduce --profile embedded --from-committed

notebooks: $(INSTALLED)  ## execute the notebooks in place, from the committed results
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level=WARN \
	  --coalesce-streams --ExecutePreprocessor.kernel_name=python3 --ExecutePreprocessor.record_timing=False \
	  --ExecutePreprocessor.extra_arguments='--IPKernelApp.log_level=40' notebooks/[0-9]*.ipynb

models: $(INSTALLED)  ## train the two embedded models anew (up to 40 minutes each)
	$(BIN)/python -m splitkit.world.pretraining

# Nothing is executed: the notebooks as they are committed, pages of the committed tables and docstrings.
site: $(INSTALLED)  ## build the site into build/site: open build/site/index.html, no server or network needed
	$(BIN)/python -m pip install -qq --constraint requirements.lock --editable '.[site]'
	rm -rf build/site
	$(BIN)/python -m docs.assemble build/site-source
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/site-doctrees build/site-source build/site

lint: $(INSTALLED)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The committed notebooks write their tables and figures when they run: into a copy, so that a test changes nothing.
# A file's tests share one process; tests/conftest.py gives each process folders of its own.
test: lint  ## lint, types, unit tests, every notebook from scratch (smoke) and the committed notebooks' outputs
	rm -rf build/test
	mkdir -p build/test data/results
	cp -R data/results build/test/results
	SPLITKIT_RESULTS='$(CURDIR)/build/test/results' SPLITKIT_FIGURES='$(CURDIR)/build/test/figures' \
	  SPLITKIT_CACHE='$(CURDIR)/build/test/cache' \
	  $(BIN)/python -m pytest --numprocesses=$(or $(JOBS),2) --dist=loadfile --no-loadscope-reorder \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=600 tests notebooks

# steering-vectors asks for an older transformers than ours and runs with it all the same: without its dependencies.
# BENCH passes options on: --record (writes data/benchmarks and the figure), --large, --rounds N.
bench: $(INSTALLED)  ## speed beside other ways to do the same (BENCH='--rounds 3': 16 minutes; BENCH=--large for 24 GB)
	$(BIN)/python -m pip install -qq --no-deps steering-vectors==0.12.2
	$(BIN)/python -m pytest -q -o python_files='bench_*.py' --benchmark-disable-gc --benchmark-columns=median,iqr,rounds \
	  tests/benchmarks $(BENCH)

clean:  ## remove what can be made again, the environment and the cache of cells included
	rm -rf .venv .cache build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
