# SPDX-License-Identifier: BSD-2-Clause
#
# rig.mk - two emulated hosts with a bridge between them (README.md)
#
#	make rig                            every run of suite.py; fetches what it needs once, into build/rig
#	make rig RUN='ivshmem icx-*'        some of them; test/rig/suite.py --list names them
#	make rig-image                      only fetches and builds
#	make rig-programs                   only compiles the programs of the rig

RUN ?=
RIG_PROGRAMS := $(patsubst %,$(B)/rig/%,ivserver tsckhz ivtest)

$(B)/rig/ivserver $(B)/rig/tsckhz $(B)/rig/ivtest: $(B)/rig/%: $(B)/obj/test/rig/%.o
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^
$(B)/obj/test/rig/ivtest.o: CPPFLAGS += $(TEST_CPPFLAGS)

rig-programs: $(RIG_PROGRAMS)

rig-image: deps
	python3 test/rig/image.py --dir $(B)/rig

# Socket tests run inside a guest too.
rig: deps
	$(MAKE) $(PARALLEL) all rig-programs $(patsubst %,$(B)/test/sock/%,poll dup)
	python3 test/rig/suite.py --build $(B) $(RUN)

.PHONY: rig rig-image rig-programs
