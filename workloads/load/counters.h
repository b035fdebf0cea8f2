/* SPDX-License-Identifier: MIT */
/* What a slice counts. Plain sums: a window is the difference of two copies. */
#ifndef IOLAB_LOAD_COUNTERS_H
#define IOLAB_LOAD_COUNTERS_H

#include <stdint.h>

/*
 * Why a response, or a connection, was not counted as a success. A response that raises one of
 * these is never a request. One broken connection raises one error, however many requests were
 * outstanding on it.
 */
enum load_error {
	LOAD_ERR_CONNECT,  /* connection attempt refused, failed or timed out */
	LOAD_ERR_TIMEOUT,  /* response not complete within the timeout */
	LOAD_ERR_RESET,	   /* connection reset, or closed before any byte of a due response */
	LOAD_ERR_SHORT,	   /* connection closed in the middle of a response */
	LOAD_ERR_LONG,	   /* bytes beyond the end of a response */
	LOAD_ERR_STATUS,   /* well-formed response with a status other than 200 */
	LOAD_ERR_HEAD,	   /* head malformed, or of a kind that cannot be checked */
	LOAD_ERR_MISMATCH, /* body differs from the file it is compared with */
	NR_LOAD_ERRORS
};

/* Names of the errors as they stand in the result document. */
extern const char *const load_error_names[NR_LOAD_ERRORS];

struct counters {
	uint64_t requests;   /* complete, correct responses */
	uint64_t bytes;	     /* bytes received, heads included */
	uint64_t body_bytes; /* body bytes received, those of unfinished responses included */
	uint64_t non_2xx;    /* responses with a final status outside 200 to 299 */
	uint64_t reconnects; /* attempts to replace a lost connection */
	uint64_t errors[NR_LOAD_ERRORS];
};

#endif
