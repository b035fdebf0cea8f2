/* SPDX-License-Identifier: MIT */
#include "counters.h"

const char *const load_error_names[NR_LOAD_ERRORS] = {
	[LOAD_ERR_CONNECT] = "connect", [LOAD_ERR_TIMEOUT] = "timeout",
	[LOAD_ERR_RESET] = "reset",	[LOAD_ERR_SHORT] = "short",
	[LOAD_ERR_LONG] = "long",	[LOAD_ERR_STATUS] = "status",
	[LOAD_ERR_HEAD] = "head",	[LOAD_ERR_MISMATCH] = "mismatch",
};
