# The same as `python dev.py <command>`, for those who like make.
PYTHON ?= $(if $(filter Windows_NT,$(OS)),python,python3)
MAILS ?=
JSON ?=
SEED ?=
SECONDS ?=
SUBSCRIPTIONS ?=
WAKEUPS ?=
PUSHES ?=
REPEATS ?=

.PHONY: help run demo chaos simulate-day storm bench-relay lab test fast screenshot screenshots
help run lab test fast screenshot screenshots:
	@$(PYTHON) dev.py $@
demo:
	@$(PYTHON) dev.py demo MAILS=$(MAILS) JSON=$(JSON)
chaos:
	@$(PYTHON) dev.py chaos MAILS=$(MAILS) SECONDS=$(SECONDS) SEED=$(SEED) JSON=$(JSON)
simulate-day:
	@$(PYTHON) dev.py simulate-day SEED=$(SEED) JSON=$(JSON)
storm:
	@$(PYTHON) dev.py storm SUBSCRIPTIONS=$(SUBSCRIPTIONS) SECONDS=$(SECONDS) WAKEUPS=$(WAKEUPS) JSON=$(JSON)
bench-relay:
	@$(PYTHON) dev.py bench-relay PUSHES=$(PUSHES) REPEATS=$(REPEATS) JSON=$(JSON)
