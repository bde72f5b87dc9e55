# SPDX-License-Identifier: BSD-2-Clause
#
# The manual.  Included by the top Makefile.

MAN_PAGES := $(sort $(wildcard man/*.[1-8]))

# Every page must be free of mandoc's warnings; its remarks on style ("STYLE:") and pages of others that are not
# installed here do not count.
lint-man: $(MAN_PAGES)
	mandoc -Tlint -Wwarning $(MAN_PAGES)
	@echo "lint-man: $(words $(MAN_PAGES)) pages are clean"

.PHONY: lint-man
