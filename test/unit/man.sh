#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# man.sh - the manual is free of mandoc's warnings, and says of every wrapped call and compared option who serves it
exec make -C "$(dirname "$0")/../.." --no-print-directory B="${T_BUILD:-build}" lint-man
