# Every target sets up .venv first when it is missing or older than the lists of packages.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CHROMIUM ?= chromium
NBSTRIPOUT := $(BIN)/nbstripout --keep-id --extra-keys metadata.language_info.version chapters/*.ipynb

# Large tensors come and go in every step of an attack. With these, glibc keeps their memory instead of returning it to
# the system and getting it back, page by page: up to half of the time on a CPU. Other systems ignore them.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296

# Threads of OpenMP that wait for each other turn on their core for a while before they let others compute: short, so
# that several processes do not slow each other down.
export GOMP_SPINCOUNT ?= 10000

# Tests run on all cores, a process of one thread on each: their tensors are too small for more. ARGS="-n 0": no others.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help book single pdf exercises course slides test test-all lint format mutants roundings colab bench url clean

help:  ## list the targets
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

book: $(READY)  ## build the book; a chapter that fails, or a warning, fails the build
	@test -e _build/.complete || rm -rf _build/.doctrees  # Sphinx repeats no warning about a page it has read before
	@rm -f _build/.complete
	$(BIN)/jupyter-book build . -W --keep-going
	@touch _build/.complete
	@echo "$(CURDIR)/_build/html/index.html"

single: $(READY)  ## the whole book on one page; what has been executed for `make book` is not executed again
	$(BIN)/jupyter-book build . --keep-going --builder custom --custom-builder singlehtml
	@echo "$(CURDIR)/_build/singlehtml/index.html"

pdf: single  ## the same page printed to _build/book.pdf, by chromium
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --no-pdf-header-footer --virtual-time-budget=60000 \
	    --print-to-pdf=_build/book.pdf "file://$(CURDIR)/_build/singlehtml/index.html"

exercises: $(READY)  ## carry the sources in book/exercises to the chapters and to what `grade` runs
	$(BIN)/python book/_ext/exercise_blocks.py

slides: $(READY)  ## slides for each part, from the pages that `make book` built, which makes them too
	$(BIN)/python book/_ext/slides.py

course: $(READY)  ## make course SEED=1: archives for students and instructors, in _build/course
	$(BIN)/python book/_ext/course_editions.py $(if $(SEED),--seed $(SEED))

test: $(READY)  ## run the tests but the slow ones; ARGS="-k metrics" goes to pytest
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(READY)  ## run every test
	$(PYTEST) -m "" $(ARGS)

lint: $(READY)  ## check style, and that notebooks are committed without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(NBSTRIPOUT) --verify

format: $(READY)  ## repair what lint finds
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(NBSTRIPOUT)

mutants: $(READY)  ## try wrong versions of the package: does a claim and a test notice each? (an hour or two)
	$(BIN)/python tests/mutants.py --out book/results/mutants.csv $(ARGS)

roundings: $(READY)  ## do the claims hold where sums are rounded otherwise? (forty minutes)
	$(BIN)/python tests/roundings.py --out book/results/roundings.csv $(ARGS)

colab:  ## install beside Colab's versions of packages, as a chapter's first cell does; run chapters there (ARGS="03")
	$(PYTHON) tests/colab.py $(ARGS)

bench: $(READY)  ## measure speed and memory; BASE=<commit> compares with that commit, in turns
	$(BIN)/python benchmarks/attack_step.py $(if $(BASE),--base $(BASE)) $(ARGS)
	@test -n "$(BASE)" || $(BIN)/python benchmarks/sweep.py
	@test -n "$(BASE)" || $(BIN)/python benchmarks/laboratory.py

url:  ## make url URL=https://github.com/OWNER/NAME: move the book to another repository
	@$(PYTHON) book/_ext/repository_url.py $(URL)

clean:  ## remove what was built, executed notebooks included (.venv stays)
	rm -rf _build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# One call of pip for everything, so that torch and torchvision match.
$(READY): pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or newer is needed, but $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv: minutes, and gigabytes, the first time"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[book,test,dev]"
	@touch $@
