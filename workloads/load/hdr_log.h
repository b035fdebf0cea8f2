/* SPDX-License-Identifier: MIT */
/*
 * Latencies as HdrHistogram's log, which HistogramLogAnalyzer, hdr-plot and the HdrHistogram
 * libraries read: a line per slice, each with the whole histogram, in ns.
 *
 * The format is that of HdrHistogram 2.1's HistogramLogWriter ("Histogram log format version 1.3")
 * and of AbstractHistogram.encodeIntoCompressedByteBuffer(), version 2: base64 of
 *
 *	int32 cookie 0x1c849314, int32 length, then that many bytes of zlib data (RFC 1950), of
 *	int32 cookie 0x1c849313, int32 bytes of counts, int32 0, int32 significant digits,
 *	int64 lowest discernible value, int64 highest trackable value, double 1.0, counts
 *
 * all big-endian. A count is a ZigZag LEB128; a negative one is the length of a run of empty
 * buckets. Nothing is lost or moved: at two significant digits and values from 1, the index of
 * HdrHistogram's counts is that of hist.h. The zlib data are stored, not compressed (RFC 1951
 * 3.2.4): runs of empty buckets are short already, and no library is needed.
 */
#ifndef IOLAB_LOAD_HDR_LOG_H
#define IOLAB_LOAD_HDR_LOG_H

#include <stdint.h>
#include <stdio.h>

#include "hist.h"

struct hdr_log {
	FILE *file;	  /* NULL: no log is wanted, and the functions below do nothing */
	uint64_t base_ns; /* CLOCK_MONOTONIC of the time that the log's timestamps count from */
};

/* Creates or empties the file and writes the head; NULL for no log. Returns 0 or -errno. */
int hdr_log_open(struct hdr_log *log, const char *path);

/* Appends the latencies of a slice whose window began at start_ns and flushes. 0 or -errno. */
int hdr_log_append(struct hdr_log *log, uint64_t start_ns, uint64_t window_ns,
		   const struct hist *h);

/* Closes the file. */
void hdr_log_close(struct hdr_log *log);

/* A histogram in base64, to be freed by the caller; NULL when memory is short. */
char *hdr_encode(const struct hist *h);

#endif
