# SPDX-License-Identifier: BSD-2-Clause
#
# rig.mk - two emulated hosts with a bridge between them (README.md)
#
#	make rig                            every run of suite.py; fetches what it needs once, into build/rig
#	make rig RUN='ivshmem icx-*'        some of them; test/rig/suite.py --list names them
#	make rig-soak                       20 times each: a guest killed, reset, its link and its broker lost
#	make rig-image                      only fetches and builds
#	make rig-programs                   only compiles the programs of the rig

RUN ?=
RIG_PROGRAMS := $(patsubst %,$(B)/rig/%,ivserver tsckhz ivtest ntbrig ntbwin.so ntbpost.so)

$(B)/rig/ivserver $(B)/rig/tsckhz $(B)/rig/ivtest: $(B)/rig/%: $(B)/obj/test/rig/%.o
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^
$(B)/obj/test/rig/ivtest.o: CPPFLAGS += $(TEST_CPPFLAGS)

# The register models, and the server that shows them to QEMU
MODEL_SRC := $(patsubst %,test/rig/%.c,pair fn cfg ntb_intel ntb_amd ioat)
NTBRIG_SRC := $(MODEL_SRC) $(patsubst %,test/rig/%.c,ntbrig vfu vfu_cmd dmamap trace control remap)
$(B)/rig/ntbrig: $(call obj,$(NTBRIG_SRC))
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^

# Inside of QEMU, which is of another release: libc alone, and no sanitizer.
$(B)/rig/ntbwin.so: test/rig/ntbwin.h
$(B)/rig/ntbwin.so $(B)/rig/ntbpost.so: $(B)/rig/%.so: test/rig/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=gnu11 $(WARN) -O2 -g -fPIC -fvisibility=hidden -shared $(LDFLAGS) -o $@ $< -ldl -lpthread

rig-programs: $(RIG_PROGRAMS)

rig-image: deps
	python3 test/rig/image.py --dir $(B)/rig

# Socket tests run inside a guest too, and the witness of the system tests.
rig: deps
	$(MAKE) $(PARALLEL) all rig-programs $(B)/test/sys/witness.so $(patsubst %,$(B)/test/sock/%,poll dup)
	python3 test/rig/suite.py --build $(B) $(RUN)

rig-soak:
	$(MAKE) rig RUN='$(or $(RUN),*-soak)'

.PHONY: rig rig-soak rig-image rig-programs
