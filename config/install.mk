# SPDX-License-Identifier: BSD-2-Clause
#
# make install, make uninstall: with DESTDIR and PREFIX.  Included by the top Makefile.
#
#	PREFIX/bin           ntbsock-ctl, pingpong
#	PREFIX/sbin          ntbsockd
#	PREFIX/lib/ntbsock   libntbsock.so: preloaded by path, so no directory of the linker's
#	PREFIX/share/man, PREFIX/share/bash-completion
#	PREFIX/lib/systemd/system (UNITDIR): the unit, not enabled
#	PREFIX/share/doc/ntbsock/examples: what the unit wants for a bridge
#	/etc/ntbsock (SYSCONFDIR): examples of the configuration, only where there is none
#
# ntbsock-ctl finds the library and ntbsockd from its own place (../lib/ntbsock, ../sbin), so that a tree can be moved.

INSTALL    ?= install
BINDIR     ?= $(PREFIX)/bin
SBINDIR    ?= $(PREFIX)/sbin
NTBSLIBDIR  = $(PREFIX)/lib/ntbsock
MANDIR     ?= $(PREFIX)/share/man
COMPDIR    ?= $(PREFIX)/share/bash-completion/completions
UNITDIR    ?= $(PREFIX)/lib/systemd/system
SYSCONFDIR ?= /etc
EXAMPLEDIR ?= $(PREFIX)/share/doc/ntbsock/examples

UNITS    = $(notdir $(wildcard config/*.service config/*.socket))
EXAMPLES = $(notdir $(wildcard config/*.conf))

# Only the Makefile's own B: what is installed has no sanitizer in it.
install: all
	@test -z "$(SAN)" || { echo "make install: not with SAN=$(SAN)" >&2; exit 1; }
	$(INSTALL) -d $(addprefix $(DESTDIR),$(BINDIR) $(SBINDIR) $(NTBSLIBDIR) $(COMPDIR) $(UNITDIR) $(SYSCONFDIR)/ntbsock)
	$(INSTALL) -m 755 $(B)/ntbsock-ctl $(B)/pingpong $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(B)/ntbsockd $(DESTDIR)$(SBINDIR)
	$(INSTALL) -m 644 $(B)/libntbsock.so $(DESTDIR)$(NTBSLIBDIR)
	$(INSTALL) -m 644 config/completion $(DESTDIR)$(COMPDIR)/ntbsock-ctl
	@for page in $(MAN_PAGES); do \
		dir=$(DESTDIR)$(MANDIR)/man$${page##*.}; \
		$(INSTALL) -d $$dir && $(INSTALL) -m 644 $$page $$dir || exit 1; \
	done
	@for unit in $(UNITS); do \
		sed 's,[a-z/]*/sbin/ntbsockd,$(SBINDIR)/ntbsockd,g' config/$$unit > $(DESTDIR)$(UNITDIR)/$$unit && \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$unit || exit 1; \
	done
	$(INSTALL) -d $(DESTDIR)$(EXAMPLEDIR)
	sed 's,/usr/local/bin,$(BINDIR),; s,/usr/local/sbin,$(SBINDIR),' config/ntbsockd.port > $(DESTDIR)$(EXAMPLEDIR)/ntbsockd.port
	@for conf in $(EXAMPLES); do \
		test -e $(DESTDIR)$(SYSCONFDIR)/ntbsock/$$conf || \
		$(INSTALL) -m 644 config/$$conf $(DESTDIR)$(SYSCONFDIR)/ntbsock || exit 1; \
	done

# The configuration stays: it is the administrator's.
uninstall:
	rm -f $(DESTDIR)$(BINDIR)/ntbsock-ctl $(DESTDIR)$(BINDIR)/pingpong $(DESTDIR)$(SBINDIR)/ntbsockd
	rm -f $(DESTDIR)$(NTBSLIBDIR)/libntbsock.so $(DESTDIR)$(COMPDIR)/ntbsock-ctl
	rm -f $(foreach page,$(MAN_PAGES),$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page)))
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS)) $(DESTDIR)$(EXAMPLEDIR)/ntbsockd.port
	-rmdir $(DESTDIR)$(NTBSLIBDIR) $(DESTDIR)$(EXAMPLEDIR) 2>/dev/null || true

.PHONY: install uninstall
