/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rules.h - from the files of the configuration directory to the rules that libraries read
 *
 * A missing file is an empty one.  Each wrong line is named on standard error with file and line, unthrottled up to
 * a bound; the rest is used.  If a file is there and cannot be read, that is one error and its part is empty.
 */
#ifndef NTBSOCK_BROKER_RULES_H
#define NTBSOCK_BROKER_RULES_H

#include <stdbool.h>
#include <stdint.h>

struct ntbs_load {
	uint32_t errors;
	char first_error[196];		/* "ports.conf:3: ..." */
};

/* Read both files of @config_dir, resolve host names (may take as long as the name service does), publish. */
void ntbs_rules_load(const char *config_dir, bool has_cable, struct ntbs_load *load);

#endif
