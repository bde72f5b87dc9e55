// SPDX-License-Identifier: BSD-2-Clause
/*
 * conf.c - see conf.h
 *
 * A value that is wrong is named, with what would be right, and the default used.  An NTBSOCK_ name that nobody knows
 * is named too: a typing error in a knob should not look like a knob that does nothing.
 */
#include "conf.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "log.h"
#include "msgq.h"
#include "sys.h"

struct ntbs_conf ntbs_conf = {
	.poll_us = 50,
	.dma_min = UINT32_MAX,
	.ring = 64,
	.bulk = 8u << 20,
	.run_dir = "/run/ntbsock",
};

static bool number(const char *name, const char *text, unsigned long min, unsigned long max, bool pow2, uint32_t *out)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (*end == 'k' || *end == 'K')
		v <<= 10, end++;
	else if (*end == 'm' || *end == 'M')
		v <<= 20, end++;
	if (end == text || *end || *text == '-' || v < min || v > max || (pow2 && (v & (v - 1)))) {
		ntbs_log(NTBS_LOG_WARN, "%s=%s: wants a %s from %lu to %lu; the default is used", name, text,
			 pow2 ? "power of two" : "number", min, max);
		return false;
	}
	*out = v;
	return true;
}

static void text(const char *name, const char *value, char *out, size_t size)
{
	if (strlen(value) >= size)
		ntbs_log(NTBS_LOG_WARN, "%s is longer than %zu bytes; the default is used", name, size - 1);
	else
		strcpy(out, value);
}

static bool flag(const char *value)
{
	return *value && strcmp(value, "0") && strcmp(value, "no");
}

static void log_level(const char *value)
{
	static const char *const names[] = { "", "", "", "err", "warn", "", "info", "debug" };
	uint32_t v;

	for (unsigned i = 3; i < 8; i++)
		if (*names[i] && !strcmp(value, names[i])) {
			ntbs_log_level = i;
			return;
		}
	if (*value >= '0' && *value <= '7' && !value[1] && number("NTBSOCK_LOG", value, 0, 7, false, &v))
		ntbs_log_level = v;
	else
		ntbs_log(NTBS_LOG_WARN, "NTBSOCK_LOG=%s: wants err, warn, info, debug or 0 to 7", value);
}

static void knob(const char *name, const char *value)
{
	if (!strcmp(name, "NTBSOCK_DISABLE"))
		ntbs_conf.disable = flag(value);
	else if (!strcmp(name, "NTBSOCK_IO_URING"))
		ntbs_conf.io_uring = flag(value);
	else if (!strcmp(name, "NTBSOCK_POLL_US"))
		number(name, value, 0, 1000000, false, &ntbs_conf.poll_us);
	else if (!strcmp(name, "NTBSOCK_LONG_MIN"))
		number(name, value, 117, 1u << 30, false, &ntbs_conf.long_min);
	else if (!strcmp(name, "NTBSOCK_DMA_MIN"))
		number(name, value, 0, 1u << 30, false, &ntbs_conf.dma_min);
	else if (!strcmp(name, "NTBSOCK_RING"))
		number(name, value, NTBS_SLOTS_MIN, NTBS_SLOTS_MAX, true, &ntbs_conf.ring);
	else if (!strcmp(name, "NTBSOCK_BULK"))
		number(name, value, 65536, NTBS_BULK_MAX, true, &ntbs_conf.bulk);
	else if (!strcmp(name, "NTBSOCK_RUN_DIR"))
		text(name, value, ntbs_conf.run_dir, sizeof(ntbs_conf.run_dir));
	else if (!strcmp(name, "NTBSOCK_STATS"))
		text(name, value, ntbs_conf.stats, sizeof(ntbs_conf.stats));
	else if (!strcmp(name, "NTBSOCK_LOG"))
		log_level(value);
	else if (!strcmp(name, "NTBSOCK_INHERITED"))
		ntbs_conf.inherited = value;
	else if (strcmp(name, "NTBSOCK_CONFIG_DIR") && strcmp(name, "NTBSOCK_LIB"))	/* the tools' */
		ntbs_log(NTBS_LOG_WARN, "%s: no such knob; ntbsock(7) lists them", name);
}

void ntbs_conf_init(char **env)
{
	const char *path, *base;

	ntbs_log_guard();
	for (; env && *env; env++) {
		const char *eq = strchr(*env, '=');
		char name[64];

		if (strncmp(*env, "NTBSOCK_", 8) || !eq || eq - *env >= (long)sizeof(name))
			continue;
		memcpy(name, *env, eq - *env);
		name[eq - *env] = 0;
		knob(name, eq + 1);
	}
	path = (const char *)getauxval(AT_EXECFN);	/* the name that was executed, link or script, as ps shows it */
	if (!path)
		return;
	base = strrchr(path, '/');
	base = base ? base + 1 : path;
	memcpy(ntbs_conf.program, base, strnlen(base, sizeof(ntbs_conf.program) - 1));
}
