# The same as `python dev.py <command>`, for those who like make.
PYTHON ?= $(if $(filter Windows_NT,$(OS)),python,python3)
MAILS ?=
JSON ?=

.PHONY: help run demo lab test fast screenshot
help run lab test fast screenshot:
	@$(PYTHON) dev.py $@
demo:
	@$(PYTHON) dev.py demo MAILS=$(MAILS) JSON=$(JSON)
