# make report     everything: data, training, 10,000 images, figures
# make lab        JupyterLab, in notebooks/
# make figures    the report's figures, of the run trained last
# make test       all tests, but for those in a browser: make test-browser
# make soak       kills training, sampling and data preparation 25 times, and compares
# make bench      speed and memory beside other kits; make bench-long: quality after equal time
# For who changes the kit: make notebooks (runs all, saves outputs), sync (.py and .ipynb of each pair), lint,
# and badges REPO=owner/name (where the notebooks' badges and clone addresses point).
# All make .venv first. To change: TRAIN=1 RECIPE=cpu MINUTES=10 N=10000 SAMPLER=ddim STEPS=50 RUN=runs/mine

PYTHON ?= python3
BIN := .venv/bin
N ?= 10000
OPTIONS = --n $(N) $(if $(TRAIN),--from-scratch) $(if $(RECIPE),--recipe $(RECIPE)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(SAMPLER),--sampler $(SAMPLER)) $(if $(STEPS),--steps $(STEPS)) $(if $(RUN),--run $(RUN))

.PHONY: report lab figures test test-browser soak bench bench-long notebooks sync badges lint clean

report: $(BIN)/.installed
	$(BIN)/python -m hwkit report $(OPTIONS)

lab: $(BIN)/.installed-lab
	cd notebooks && ../$(BIN)/jupyter lab

figures: $(BIN)/.installed
	$(BIN)/python -m hwkit figures $(if $(RUN),--run $(RUN))

test: $(BIN)/.installed-tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --ignore=tests/browser # a process for each core
	runs=$$(mktemp -d) && HWKIT_RECIPE=smoke HWKIT_RUNS=$$runs $(BIN)/python -m pytest --nbval-lax notebooks; \
		status=$$?; rm -rf "$$runs"; exit $$status

test-browser: $(BIN)/.installed-browser # its screenshots: tests/artefacts/
	$(BIN)/python -m pytest tests/browser

soak: $(BIN)/.installed-tests
	$(BIN)/python tests/soak.py --kills $(or $(KILLS),25)

bench: $(BIN)/.installed-bench # 10 minutes; results in benchmarks/results/
	$(BIN)/python -m benchmarks

bench-long: $(BIN)/.installed-bench # hours; goes on where it stopped
	$(BIN)/python -m benchmarks --long

notebooks: $(BIN)/.installed-tests
	$(BIN)/python notebooks/build.py execute $(ONLY)

sync: $(BIN)/.installed
	$(BIN)/python notebooks/build.py sync

badges: $(BIN)/.installed
	$(BIN)/python notebooks/build.py badges "$(REPO)"

lint: $(BIN)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check hwkit tests data benchmarks # a notebook is formatted by hand: its cells are read, not only run

$(BIN)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("hwkit needs Python 3.10 or later: name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	@echo "Installing what requirements.txt names (PyTorch is large: some minutes) …"
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(BIN)/.installed-lab: $(BIN)/.installed
	$(BIN)/python -m pip install --disable-pip-version-check "jupyterlab>=4.2"
	@touch $@

$(BIN)/.installed-tests: $(BIN)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r tests/requirements.txt
	@touch $@

$(BIN)/.installed-bench: $(BIN)/.installed benchmarks/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

$(BIN)/.installed-browser: $(BIN)/.installed-tests tests/browser/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r tests/browser/requirements.txt
	@command -v chromium >/dev/null || ! command -v apt-get >/dev/null || \
		{ apt-get update && apt-get install -y --no-install-recommends chromium; }
	@command -v chromium >/dev/null || { echo "The tests in a browser need the command chromium: install it, then make test-browser again."; exit 1; }
	@touch $@

clean: # the environment and the caches; runs/ and data/ stay
	rm -rf .venv .pytest_cache .ruff_cache
