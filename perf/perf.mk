# SPDX-License-Identifier: BSD-2-Clause
#
# The benchmarks.  Included by the top Makefile.

# pingpong is several files; the top Makefile names the first
$(B)/pingpong: $(filter-out $(call obj,perf/pingpong.c),$(call obj,$(sort $(wildcard perf/pingpong*.c))))

# The bare limit of the machine: no sockets, no library, but the port's own copy
LIMIT_SRC := perf/limit.c perf/limit_opts.c perf/limit_ring.c perf/limit_stream.c driver-glue/port.c
$(B)/limit: $(call obj,$(LIMIT_SRC))
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(JSON_LIBS)

# Everything side by side: make bench (about 10 minutes), make bench-quick (about 2).
# BENCH_ARGS: see perf/bench.py --help
bench: all $(B)/limit
	/usr/bin/python3 perf/bench.py --build $(B) $(BENCH_ARGS)

bench-quick: all $(B)/limit
	/usr/bin/python3 perf/bench.py --build $(B) --quick $(BENCH_ARGS)

# A real program pair over ntbsock, then a small table beside TCP and AF_UNIX.  In steps, because `deps` installs
# what is missing, or says what to install, before the rest of this file can be right about it.
demo:
	$(MAKE) deps DEPS_LEVEL=demo
	$(MAKE) $(PARALLEL) all
	sh perf/demo.sh $(B)

.PHONY: bench bench-quick demo
