# SPDX-License-Identifier: BSD-2-Clause
#
# fuzz.mk - every test/fuzz/fuzz_NAME.c, a libFuzzer target under AddressSanitizer and UndefinedBehaviorSanitizer
#
#	make fuzz FUZZ_SECONDS=600          each for that long; what it finds lies in build/fuzz/
#	make fuzz FUZZ='inbox conf'         some of them
#	make fuzz-check                     replays test/fuzz/corpus/NAME/ and runs each for some seconds
#	build/fuzz/fuzz_inbox FILE          one input again
#
# A target links the message queue, wcsim, and the sources that its line "links: a.c b.c" names.

FUZZ_SECONDS ?= 600
FUZZ_CHECK_SECONDS ?= 5
FUZZ ?= $(patsubst test/fuzz/fuzz_%.c,%,$(wildcard test/fuzz/fuzz_*.c))
FUZZ_CC ?= clang
FUZZ_CFLAGS := -std=gnu11 $(WARN) -fno-strict-aliasing -O1 -g -fsanitize=fuzzer,address,undefined \
	-fno-sanitize-recover=all -fno-omit-frame-pointer -DNTBS_SANITIZED -DNTBS_FUZZ
FUZZ_PROGRAMS := $(patsubst %,build/fuzz/fuzz_%,$(FUZZ))
FUZZ_LIMITS := -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
FUZZ_HEADERS = $(wildcard include/ntbsock/*.h driver-glue/*.h driver-glue/*/*.h ntbsock/*.h ntbsock/*/*.h test/*.h)

.SECONDEXPANSION:
$(FUZZ_PROGRAMS): build/fuzz/%: test/fuzz/%.c $$(sort $$(QUEUE_SRC) $$(SIM_SRC) $$(call test_links,test/fuzz/$$*.c)) $$(FUZZ_HEADERS)
	@mkdir -p $(@D)
	$(FUZZ_CC) $(CPPFLAGS) -Itest $(FUZZ_CFLAGS) -o $@ $(filter %.c,$^) -lpthread

# $(1) name, $(2) seconds.  What is new goes to build/fuzz/corpus, never into the source tree.
define fuzz_run
	@mkdir -p build/fuzz/corpus/$(1) build/fuzz/found
	@echo "fuzz $(1): $(2) s"
	@build/fuzz/fuzz_$(1) $(FUZZ_LIMITS) -max_total_time=$(2) -artifact_prefix=build/fuzz/found/$(1)- \
		build/fuzz/corpus/$(1) $(wildcard test/fuzz/corpus/$(1)) >build/fuzz/$(1).log 2>&1 || { \
		tail -n 60 build/fuzz/$(1).log; \
		echo "fuzz $(1): FAIL (log build/fuzz/$(1).log, input in build/fuzz/found/)"; exit 1; }
	@sed -n 's/^stat::number_of_executed_units: */fuzz $(1): ok, runs: /p' build/fuzz/$(1).log

endef

define fuzz_replay
	@build/fuzz/fuzz_$(1) $(FUZZ_LIMITS) $(wildcard test/fuzz/corpus/$(1)/*) >build/fuzz/$(1).replay.log 2>&1 || { \
		tail -n 60 build/fuzz/$(1).replay.log; \
		echo "fuzz $(1): FAIL on an input of test/fuzz/corpus/$(1) (log build/fuzz/$(1).replay.log)"; exit 1; }

endef

fuzz: $(FUZZ_PROGRAMS)
	$(foreach f,$(FUZZ),$(call fuzz_run,$(f),$(FUZZ_SECONDS)))

fuzz-check: $(FUZZ_PROGRAMS)
	$(foreach f,$(FUZZ),$(if $(wildcard test/fuzz/corpus/$(f)/*),$(call fuzz_replay,$(f))))
	$(foreach f,$(FUZZ),$(call fuzz_run,$(f),$(FUZZ_CHECK_SECONDS)))

.PHONY: fuzz fuzz-check
