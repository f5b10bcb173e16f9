# make report      everything: data, training (or the kit's weights), 10,000 images, figures, measurement, report.html
# make lab         JupyterLab, in notebooks/
# make figures     the figures of the run trained last
# make test        the tests, and the notebooks in a small size; beyond them make test-crash (kills, several processes,
#                  damaged files), test-course (grading, doctor, self-check, an evening on Colab, worked answers),
#                  test-colab (Colab's branch and versions), test-browser (the slider) and test-page
# make page        the page on which the network runs, in site/, and a server for it on this machine
# make soak        kills training, sampling and data preparation 25 times, and compares
# make bench       speed and memory beside other kits; make bench-long: quality after equal time
#
# For who changes the kit: make notebooks ONLY=03 (runs them, saves outputs; solutions/03 is one, too), sync (.py and
# .ipynb of each pair), lint, course (the student edition, notebooks/student/, and both editions in Chinese,
# notebooks/zh-TW/; RULE="a sentence on the library's answers", RULE_ZH="the same in Chinese"), catalogues (what is to be
# translated, see notebooks/translations.py) and badges REPO=owner/name REF=main (where badges and clone addresses point).
#
# All make .venv first. Options of make report:
#   TRAIN=1 RECIPE=original MINUTES=30 N=1000 SAMPLER=unipc STEPS=15 RUN=runs/mine
# RECIPE is original, original-t1000, original-cosine, cpu, cpu-long, gpu or smoke; RECIPE, MINUTES and TRAIN=1 train a
# run of your own.

PYTHON ?= python3
BIN := .venv/bin
COLAB := .venv-colab/bin
INSTALL := python -m pip install --disable-pip-version-check
N ?= 10000
REF ?= main
OPTIONS = --n $(N) $(if $(TRAIN),--from-scratch) $(if $(RECIPE),--recipe $(RECIPE)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(SAMPLER),--sampler $(SAMPLER)) $(if $(STEPS),--steps $(STEPS)) $(if $(RUN),--run $(RUN))

# The tests on all cores, file by file, in the order of tests/conftest.py. nbval, which takes seconds to load in each
# process, is left to the tests that start it.
pytest = OMP_NUM_THREADS=1 $(1)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -p no:nbval

# What is killed at random moments, several processes on one run, files damaged in every way.
CRASH := $(addprefix tests/test_,crash.py processes.py parsers.py)

# What takes minutes: an evening on Colab, a class to grade, images and answers with every mistake, the worked answers.
COURSE := $(addprefix tests/test_,evening.py doctor.py own.py selfcheck.py solutions.py grade.py nbval_solutions.py) $(wildcard tests/test_grade_*.py)

.PHONY: report lab figures page test test-crash test-course test-colab test-browser test-page soak bench bench-long notebooks sync course catalogues badges lint clean

report: $(BIN)/.installed
	$(BIN)/python -m hwkit report $(OPTIONS)

lab: $(BIN)/.installed-lab
	cd notebooks && ../$(BIN)/jupyter lab

figures: $(BIN)/.installed
	$(BIN)/python -m hwkit figures $(if $(RUN),--run $(RUN))

page: $(BIN)/.installed-page
	$(BIN)/python -m hwkit page --out site $(if $(RUN),--run $(RUN))
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory site $(or $(PORT),8000)

test: $(BIN)/.installed-tests
	$(call pytest,$(BIN)) --ignore=tests/browser $(addprefix --ignore=,$(CRASH) $(COURSE) tests/test_colab.py tests/test_page.py)

test-crash: $(BIN)/.installed-tests
	$(call pytest,$(BIN)) $(CRASH)

test-course: $(BIN)/.installed-tests
	$(call pytest,$(BIN)) $(COURSE)

test-colab: $(COLAB)/.installed # what meets the student on Colab: its branch, widgets, figures, notebooks
	$(call pytest,$(COLAB)) --disable-warnings $(addprefix tests/test_,slider.py figures.py notebooks.py colab.py nbval.py)

test-browser: $(BIN)/.installed-browser # the slider, and the page as Python makes it; screenshots: tests/artefacts/
	$(BIN)/python -m pytest tests/browser/test_slider.py tests/test_page.py

test-page: $(BIN)/.installed-node # the page on which the network runs; needs node and asks npm's registry
	$(BIN)/python -m pytest tests/browser/test_page*.py

soak: $(BIN)/.installed-tests
	$(BIN)/python tests/soak.py --kills $(or $(KILLS),25)

bench: $(BIN)/.installed-bench # 15 minutes; results in benchmarks/results/
	$(BIN)/python -m benchmarks

bench-long: $(BIN)/.installed-bench # hours; goes on where it stopped
	$(BIN)/python -m benchmarks --long

notebooks: $(BIN)/.installed-tests
	$(BIN)/python notebooks/build.py execute $(ONLY)

course: $(BIN)/.installed
	$(BIN)/python notebooks/editions.py $(if $(RULE),--rule "$(RULE)") $(if $(RULE_ZH),--rule-zh "$(RULE_ZH)")

catalogues: $(BIN)/.installed
	$(BIN)/python notebooks/translations.py update

sync: $(BIN)/.installed
	$(BIN)/python notebooks/build.py sync

badges: $(BIN)/.installed
	$(BIN)/python notebooks/build.py badges "$(REPO)" "$(REF)"

lint: $(BIN)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check hwkit tests data benchmarks # a notebook is formatted by hand: its cells are read, not only run

$(BIN)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("hwkit needs Python 3.10 or later: name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	@echo "Installing what requirements.txt names (PyTorch is large: some minutes) …"
	$(BIN)/$(INSTALL) -r requirements.txt
	@touch $@

$(BIN)/.installed-lab: $(BIN)/.installed
	$(BIN)/$(INSTALL) "jupyterlab>=4.2"
	@touch $@

$(BIN)/.installed-page: $(BIN)/.installed requirements-page.txt
	$(BIN)/$(INSTALL) -r requirements-page.txt
	@touch $@

$(BIN)/.installed-tests: $(BIN)/.installed tests/requirements.txt
	$(BIN)/$(INSTALL) -r tests/requirements.txt
	@touch $@

# Colab's versions in an environment of their own. What is not pinned there, PyTorch above all, is found in .venv by the
# .pth file, so that nothing large is installed twice.
$(COLAB)/.installed: $(BIN)/.installed-tests requirements.txt tests/constraints-colab.txt
	rm -rf .venv-colab && $(BIN)/python -m venv .venv-colab
	packages='import sysconfig; print(sysconfig.get_path("purelib"))'; \
		$(BIN)/python -c "$$packages" > "$$($(COLAB)/python -c "$$packages")/venv.pth"
	$(COLAB)/$(INSTALL) -r requirements.txt nbval nbclient nbformat -c tests/constraints-colab.txt
	@touch $@

$(BIN)/.installed-bench: $(BIN)/.installed benchmarks/requirements.txt
	$(BIN)/$(INSTALL) -r benchmarks/requirements.txt
	@touch $@

$(BIN)/.installed-browser: $(BIN)/.installed-tests tests/browser/requirements.txt
	$(BIN)/$(INSTALL) -r tests/browser/requirements.txt
	@command -v chromium >/dev/null || ! command -v apt-get >/dev/null || \
		{ apt-get update && apt-get install -y --no-install-recommends chromium; } || true # without root the next line says it
	@command -v chromium >/dev/null || { echo "The tests in a browser need the command chromium: install it, then make test-browser again."; exit 1; }
	@touch $@

$(BIN)/.installed-node: $(BIN)/.installed-browser tests/browser/package.json
	@command -v npm >/dev/null || ! command -v apt-get >/dev/null || \
		{ apt-get update && apt-get install -y --no-install-recommends nodejs npm; } || true
	@command -v npm >/dev/null || \
		{ echo "The tests of the page need node (18 or later) and npm: install them, then make test-page again."; exit 1; }
	npm install --prefix tests/browser --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@

clean: # the environments and the caches; runs/ and data/ stay
	rm -rf .venv .venv-colab tests/browser/node_modules .pytest_cache .ruff_cache build dist hwkit.egg-info
