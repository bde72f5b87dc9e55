/* SPDX-License-Identifier: BSD-2-Clause */
/* conf.h - the knobs of ntbsock(7), read once from the environment */
#ifndef NTBSOCK_CONF_H
#define NTBSOCK_CONF_H

#include <stdbool.h>
#include <stdint.h>

struct ntbs_conf {
	bool disable;
	bool io_uring;			/* leave io_uring_setup() alone */
	uint32_t poll_us;
	uint32_t long_min;		/* 0: not set */
	uint32_t dma_min;		/* UINT32_MAX: not set; 0: never */
	uint32_t ring;			/* slots */
	uint32_t bulk;			/* bytes */
	char run_dir[96];
	char stats[256];		/* NTBSOCK_STATS */
	const char *inherited;		/* NTBSOCK_INHERITED, in the environment that we began with; the library's own */
	char program[28];		/* base name of the executable, for ports.conf */
};
extern struct ntbs_conf ntbs_conf;

void ntbs_conf_init(char **env);

#endif
