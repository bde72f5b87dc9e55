# SPDX-License-Identifier: BSD-2-Clause
#
# tests.mk - what the tests need and how they are built; test/run.py runs them
#
#	make check                          everything; its last line: N passed, N failed, N skipped
#	make check-unit check-sock check-sys check-fault check-diff check-san model
#	make soak SECONDS=3600              new sequences for test/diff for so long, or without SECONDS sock and sys in full size
#	make check SAN=thread               unit and socket tests of that variant alone
#	make check-sock T='stream epoll*'   some of them
#	make rig                            two emulated hosts and what runs on them (test/rig/README.md); not part of check
#	make check-runtimes                 Java, Node and Rust, which it installs; not part of check
#
# Unit and fault tests link the message queue and the sources that their line "links: a.c b.c" names.  Socket
# tests are ordinary programs, run as they are, under ntbsock-ctl over shared memory, and ("bridge")
# through the window of a port that leads back to its own host; with SAN= the library is linked into them.

T ?=
RUN_TESTS = python3 test/run.py --build $(B) $(if $(SAN),--linked-in) $(addprefix --only ,$(T))
# Sub-makes build in parallel also if nobody said -j.
PARALLEL = $(if $(filter --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))

UNIT_TESTS  := $(patsubst %.c,$(B)/%,$(wildcard test/unit/*.c))
FAULT_TESTS := $(patsubst %.c,$(B)/%,$(wildcard test/fault/*.c))
SOCK_TESTS  := $(patsubst %.c,$(B)/%,$(wildcard test/sock/*.c))
SYS_PROGRAMS := $(if $(SAN),,$(B)/test/sys/witness.so)
DIFF_PROGRAM := $(if $(SAN),,$(B)/test/diff/diff)
# The unit tests of the emulated bridge speak to its server.
TEST_PROGRAMS := $(B)/rig/ntbrig $(B)/rig/ntbwin.so $(UNIT_TESTS) $(FAULT_TESTS) $(SOCK_TESTS) $(SYS_PROGRAMS) $(DIFF_PROGRAM)

# Sources that test $(1) wants beside the message queue
test_links = $(shell sed -n 's,.*[^a-z]links: \([^*]*\).*,\1,p' $(1))
TEST_CPPFLAGS := -Itest

.SECONDEXPANSION:
.SECONDARY:
$(B)/test/unit/% $(B)/test/fault/%: CPPFLAGS += $(TEST_CPPFLAGS)
$(UNIT_TESTS) $(FAULT_TESTS): $(B)/%: $(B)/obj/%.o $$(call obj,$$(sort $$(QUEUE_SRC) $$(SIM_SRC) $$(call test_links,$$*.c)))
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(URCU_LIBS) $(JSON_LIBS) $(if $(findstring vfio/pci,$^),$(PCI_LIBS)) $(if $(findstring vfio/hw,$^),$(NUMA_LIBS)) -ldl -lpthread

$(SOCK_TESTS): $(B)/%: $(B)/obj/%.o $(if $(SAN),$(call pic,$(LIB_SRC)))
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) $(if $(SAN),-rdynamic) -o $@ $^ $(if $(SAN),$(URCU_LIBS) -ldl) -lpthread

# In front of ours, so it must not know ours: libc alone.
$(B)/test/sys/witness.so: $(B)/pic/test/sys/witness.o
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -fvisibility=default -o $@ $^ -ldl -lpthread

# Reads counters as ntbsock-ctl does; nothing of the library is in it.
DIFF_SRC := $(wildcard test/diff/*.c) ntbsock/ctl/pool.c ntbsock/ctl/ask.c
$(B)/obj/test/diff/repro.o: test/diff/prelude.h
$(B)/test/diff/diff: $(call obj,$(DIFF_SRC))
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ -lpthread

test-programs: $(TEST_PROGRAMS)

# What the goals given on the command line need: the demo less than the tests.
DEPS_LEVEL := $(if $(filter check-runtimes,$(MAKECMDGOALS)),runtimes,$(if $(filter-out demo rig rig-image,$(MAKECMDGOALS)),check,$(if $(filter rig%,$(MAKECMDGOALS)),rig,demo)))
deps:
	@sh test/deps.sh $(DEPS_LEVEL)

# Tools first, then everything else, so that the build sees what was installed.
ifeq ($(SAN),)
check: deps
	$(MAKE) $(PARALLEL) all test-programs
	$(MAKE) san-programs
	$(RUN_TESTS) --san build/san-address-undefined --san build/san-thread unit fault sock diff sys model fuzz
else
check: deps
	$(MAKE) $(PARALLEL) check-build
	$(RUN_TESTS) unit fault sock
endif

check-build: $(B)/ntbsockd $(B)/ntbsock-ctl test-programs

# B= by name, as run.py is told it.
san-programs:
	$(MAKE) SAN=address,undefined B=build/san-address-undefined $(PARALLEL) check-build
	$(MAKE) SAN=thread B=build/san-thread $(PARALLEL) check-build

check-san: san-programs
	$(RUN_TESTS) --san build/san-address-undefined --san build/san-thread

check-unit check-sock check-sys check-fault check-diff: check-%: all test-programs
	$(RUN_TESTS) $*

check-runtimes: deps
	$(MAKE) $(PARALLEL) all test-programs
	$(RUN_TESTS) runtimes

# Not part of check: sequences of calls that nobody has drawn yet, for SECONDS; without it the same tests in full size.
SECONDS ?=
soak: all test-programs
	$(if $(SECONDS),$(B)/test/diff/diff --build $(B) --soak $(SECONDS),NTBS_SOAK=1 $(RUN_TESTS) sock sys)

model:
	$(RUN_TESTS) model

-include test/fuzz/fuzz.mk test/rig/rig.mk

.PHONY: deps check check-build check-san check-unit check-sock check-sys check-fault check-diff check-runtimes san-programs test-programs soak model
