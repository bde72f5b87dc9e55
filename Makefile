# SPDX-License-Identifier: BSD-2-Clause
#
# What a packager sets
PREFIX  ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC := gcc
endif
CFLAGS  ?= -O2 -g
SAN     ?=
WERROR  ?=

PKG_CONFIG ?= pkg-config
VERSION := 0.1.0
comma   := ,
VARIANT := $(if $(SAN),san-$(subst $(comma),-,$(SAN)),release)
B       := build$(if $(SAN),/$(VARIANT))

# Flags every file gets
WARN     := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wno-unused-parameter $(if $(findstring thread,$(SAN)),-Wno-tsan) $(if $(WERROR),-Werror)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -DNTBS_SANITIZED)
CPPFLAGS += -D_GNU_SOURCE -DNTBS_VERSION='"$(VERSION)"' -Iinclude -Idriver-glue -Intbsock
ALL_CFLAGS := -std=gnu11 $(WARN) -fno-strict-aliasing -fvisibility=hidden $(CFLAGS) $(SANFLAGS)

# Libraries.  The preloaded library links liburcu alone: libpci is GPL and only for programs that may be.
URCU_CFLAGS := $(shell $(PKG_CONFIG) --cflags liburcu-bp 2>/dev/null)
URCU_LIBS   := $(shell $(PKG_CONFIG) --libs liburcu-bp 2>/dev/null || echo -lurcu-bp)
PCI_LIBS    := $(shell $(PKG_CONFIG) --libs libpci 2>/dev/null || echo -lpci)
NUMA_LIBS   := $(shell $(PKG_CONFIG) --libs numa 2>/dev/null || echo -lnuma)
PCI_CFLAGS  := $(shell $(PKG_CONFIG) --cflags libpci 2>/dev/null)
JSON_LIBS   := $(shell $(PKG_CONFIG) --libs jansson 2>/dev/null || echo -ljansson)

# Sources, in the order of the send path
GLUE_SRC := driver-glue/port.c driver-glue/window.c driver-glue/log.c
SIM_SRC  := driver-glue/sim/wcsim.c
# The message queue alone, for unit tests, fuzzers and benchmarks
QUEUE_SRC := ntbsock/msgq_tx.c ntbsock/msgq_rx.c ntbsock/msgq_back.c ntbsock/user.c ntbsock/crc32c.c $(GLUE_SRC)
LIB_SRC  := $(sort $(wildcard ntbsock/*.c) $(GLUE_SRC))
# Bridges through VFIO, for programs that may link libpci
VFIO_SRC := $(wildcard driver-glue/vfio/*.c)
BROKER_SRC := $(wildcard ntbsock/broker/*.c) ntbsock/crc32c.c $(GLUE_SRC) $(VFIO_SRC) driver-glue/sim/dmasim.c
CTL_SRC  := $(wildcard ntbsock/ctl/*.c) ntbsock/broker/conf_file.c $(VFIO_SRC) driver-glue/port.c
PERF_SRC := perf/pingpong.c

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
pic = $(patsubst %.c,$(B)/pic/%.o,$(1))

PROGRAMS := $(B)/libntbsock.so $(B)/ntbsockd $(B)/ntbsock-ctl $(B)/pingpong

all: $(PROGRAMS)

$(B)/libntbsock.so: $(call pic,$(LIB_SRC)) $(B)/libntbsock.map
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -Wl,-z,now,-z,relro$(if $(SAN),,$(comma)-z$(comma)defs) -Wl,--version-script=$(B)/libntbsock.map -Wl,-soname,libntbsock.so \
		-o $@ $(call pic,$(LIB_SRC)) $(URCU_LIBS) -ldl -lpthread

$(B)/ntbsockd: $(call obj,$(BROKER_SRC))
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(PCI_LIBS) $(NUMA_LIBS)

$(B)/ntbsock-ctl: $(call obj,$(CTL_SRC))
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(JSON_LIBS) $(PCI_LIBS) $(NUMA_LIBS) -lm
$(call obj,$(VFIO_SRC)): CPPFLAGS += $(PCI_CFLAGS)

$(B)/pingpong: $(call obj,$(PERF_SRC))
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(JSON_LIBS) -lpthread -lm

# The wrapped names are all that the library exports.
$(B)/libntbsock.map: ntbsock/preload_libc.def
	@mkdir -p $(@D)
	( echo '{ global:'; sed -n 's/^NTBS_CALL([^,]*, \([a-zA-Z0-9_]*\),.*/\1;/p; s/^NTBS_ALIAS(\(.*\))/\1;/p' $<; \
	  echo 'local: *; };' ) >$@

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(ALL_CFLAGS) $(URCU_CFLAGS) -fPIC -ftls-model=initial-exec -MMD -MP -c -o $@ $<

-include $(shell find build -name '*.d' -type f ! -path 'build/rig/*' 2>/dev/null)

# Parts with rules of their own; each says what it adds.
-include test/tests.mk perf/perf.mk man/man.mk config/install.mk

clean:
	rm -rf build

.PHONY: all clean
.DEFAULT_GOAL := all
