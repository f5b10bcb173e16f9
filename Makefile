# make report   everything: data, training, 10,000 images, figures
# make test     all tests
# Both make .venv first. To change: RECIPE=cpu MINUTES=10 N=10000 SAMPLER=ddim STEPS=50 RUN=runs/mine

PYTHON ?= python3
BIN := .venv/bin
N ?= 10000
OPTIONS = --n $(N) $(if $(RECIPE),--recipe $(RECIPE)) $(if $(MINUTES),--minutes $(MINUTES)) \
	$(if $(SAMPLER),--sampler $(SAMPLER)) $(if $(STEPS),--steps $(STEPS)) $(if $(RUN),--run $(RUN))

.PHONY: report test lint clean

report: $(BIN)/.installed
	$(BIN)/python -m hwkit report $(OPTIONS)

test: $(BIN)/.installed-tests
	$(BIN)/python -m pytest

lint: $(BIN)/.installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(BIN)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("hwkit needs Python 3.10 or later: name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	@echo "Installing what requirements.txt names (PyTorch is large: some minutes) …"
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(BIN)/.installed-tests: $(BIN)/.installed tests/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r tests/requirements.txt
	@touch $@

clean: # the environment and the caches; runs/ and data/ stay
	rm -rf .venv .pytest_cache .ruff_cache
