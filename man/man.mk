# SPDX-License-Identifier: BSD-2-Clause
#
# The manual.  Included by the top Makefile.

MAN_PAGES := $(sort $(wildcard man/*.[1-8]))

# Every page must be free of mandoc's warnings; its remarks on style ("STYLE:") and pages of others that are not
# installed here do not count.
# Every call that is wrapped, and every option that test/diff compares, has its line in ntbsock(7).
lint-man: $(MAN_PAGES)
	mandoc -Tlint -Wwarning $(MAN_PAGES)
	@sed -n '/^.Sh CALLS AND OPTIONS/,/^.Sh LIMITATIONS/p' man/ntbsock.7 >$(B)/calls.txt; missing=; \
	for name in $$( (sed -n 's/^NTBS_CALL([^,]*, \([a-zA-Z0-9_]*\),.*/\1/p; s/^NTBS_ALIAS(\(.*\))/\1/p' ntbsock/preload_libc.def | \
			sed 's/^__//; s/_chk$$//; s/v64v2$$/v2/; s/64$$//'; \
			sed -n 's/^OPTION([A-Z_]*, \([A-Z_]*\),.*/\1/p' test/diff/options.def) | sort -u); do \
		grep -qw -- "$$name" $(B)/calls.txt || missing="$$missing $$name"; done; \
	[ -z "$$missing" ] || { echo "man/ntbsock.7, CALLS AND OPTIONS: no line for$$missing" >&2; exit 1; }
	@echo "lint-man: $(words $(MAN_PAGES)) pages are clean"

.PHONY: lint-man
