/* SPDX-License-Identifier: MIT */
/* The request target (RFC 9112 3.2) as a path beneath the root, and the fields that select. Pure.
 */
#ifndef IOLAB_TARGET_H
#define IOLAB_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* The path of a target without query and fragment, still encoded; NULL when it has none. */
const char *target_path(const char *target, size_t len, size_t *path_len);

/*
 * Decodes a path into out (at least len + 2 bytes), without leading slashes, "." for the root
 * itself. False when it is malformed: no slash in front, a bad escape, a NUL.
 */
bool target_decode(const char *path, size_t len, char *out);

enum range_result {
	RANGE_NONE,
	RANGE_ONE,
	RANGE_UNSATISFIABLE
};

/*
 * A Range field for a representation of size bytes (RFC 9110 14.1.2). RANGE_NONE: the field is to
 * be ignored (other unit, malformed, several ranges). RANGE_ONE: bytes *first to *last.
 */
enum range_result range_parse(const char *s, size_t len, uint64_t size, uint64_t *first,
			      uint64_t *last);

/* An HTTP date in any of its three forms (RFC 9110 5.6.7); -1 when it is none. */
time_t http_date_parse(const char *s, size_t len);

/* Whether a list of entity tags (or "*") has etag; weak comparison, or strong (RFC 9110 8.8.3.2).
 */
bool etag_listed(const char *list, size_t len, const char *etag, bool strong);

#endif
