# Two commands are all: `make run` and `make test`. Both set up .venv in this folder by themselves.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
EXTRAS := models,mic,serve,tune,dev
SAMPLE = $(shell $(BIN)/python -c "import importlib.util as u; print(u.find_spec('pyannote.audio').submodule_search_locations[0])")/sample

# Many container images turn the cache of compiled modules off. Nothing compiles those of an editable install beforehand, so each
# process of a pipeline would then compile the package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test check format bench kills fuzz soak hosts clean

run: $(STAMP)  ## diarize the recording that pyannote.audio ships, and score it
	$(BIN)/diart-mp run "$(SAMPLE)/sample.wav" --reference "$(SAMPLE)/sample.rttm" --latency 5 --output out --force
	@echo "the turns are in out/sample.rttm"

test: $(STAMP)  ## all tests
	$(BIN)/diart-mp models pull
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder  # two cores: many tests wait for a clock

check: $(STAMP)  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## the whole table, also where a limit is not kept (about a quarter of an hour)
	-$(BIN)/python -m benchmarks.transport --runs 3
	-$(BIN)/python -m benchmarks.shares --seconds 60
	-$(BIN)/python -m benchmarks.linear --minutes 10 --seconds 30
	-$(BIN)/python -m benchmarks.versus --pairs 1 --seconds 120

kills: $(STAMP)  ## 125 seeded schedules of kill -9 over a recording of three minutes, compared byte for byte; 50 kills of the supervisor; speed of recovery; overload
	$(BIN)/python -m tests.faults.kills
	DIART_MP_TEST_ENDS=50 $(BIN)/pytest -q tests/faults/test_supervisor_killed.py
	$(BIN)/python -m tests.faults.recovery --kills 15 --recording "$(SAMPLE)/sample.wav"
	$(BIN)/python -m tests.faults.overload --recording "$(SAMPLE)/sample.wav" --reference "$(SAMPLE)/sample.rttm"

fuzz: $(STAMP)  ## a million hostile messages at every socket of a running pipeline, and 10,000 garbage connections
	$(BIN)/python -m tests.faults.hostile
	$(BIN)/python -m tests.faults.garbage

soak: $(STAMP)  ## 200 h of audio through the transport, 2 h through the models: does anything grow? And 10 minutes on a busy machine
	$(BIN)/python -m tests.faults.soak --hours 200 --null
	$(BIN)/python -m tests.faults.soak --hours 2 --recording "$(SAMPLE)/sample.wav"
	$(BIN)/python -m tests.faults.busy --minutes 10 --recording "$(SAMPLE)/sample.wav"

hosts: $(STAMP)  ## for root: all start orders, a replica that joins, and three hosts with cuts, kills and a bad link
	$(BIN)/python -m tests.hosts.orders
	$(BIN)/python -m tests.hosts.replica
	$(BIN)/python -m tests.hosts.trial "$(SAMPLE)/sample.wav"

clean:
	rm -rf .venv out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch is pinned first and alone, so that nothing else decides which build comes.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	touch $(STAMP)
