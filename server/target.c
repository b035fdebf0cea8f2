// SPDX-License-Identifier: MIT
#include "target.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

const char *target_path(const char *target, size_t len, size_t *path_len)
{
	const char *end = target + len, *at = target, *stop;

	if (len > 7 && !strncasecmp(target, "http://", 7))
		at = target + 7;
	else if (len > 8 && !strncasecmp(target, "https://", 8))
		at = target + 8;
	if (at != target) { /* absolute form: skip the authority */
		while (at < end && *at != '/' && *at != '?' && *at != '#')
			at++;
		if (at == end || *at != '/') {
			*path_len = 1;
			return "/";
		}
	}
	for (stop = at; stop < end && *stop != '?' && *stop != '#';)
		stop++;
	*path_len = (size_t)(stop - at);
	return *path_len && *at == '/' ? at : NULL;
}

static int hex(char ch)
{
	if (ch >= '0' && ch <= '9')
		return ch - '0';
	ch |= 0x20;
	return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

bool target_decode(const char *path, size_t len, char *out)
{
	char *o = out;
	size_t i = 0;

	if (!len || path[0] != '/')
		return false;
	while (i < len && path[i] == '/')
		i++;
	for (; i < len; i++) {
		char ch = path[i];

		if (ch == '%') {
			int hi = i + 2 < len ? hex(path[i + 1]) : -1;
			int lo = i + 2 < len ? hex(path[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return false;
			ch = (char)(hi << 4 | lo);
			i += 2;
		}
		if (!ch)
			return false;
		*o++ = ch;
	}
	/* "%2fetc" decodes to an absolute path: still meant beneath the root, so still relative. */
	*o = '\0';
	for (i = 0; out[i] == '/';)
		i++;
	memmove(out, out + i, (size_t)(o - out) - i + 1);
	if (!*out)
		strcpy(out, ".");
	return true;
}

/* Digits from *s; false when there are none. Beyond 64 bits it stays at the maximum. */
static bool number(const char **s, const char *end, uint64_t *value)
{
	const char *at = *s;
	uint64_t v = 0;

	for (; at < end && *at >= '0' && *at <= '9'; at++)
		v = v > (UINT64_MAX - 9) / 10 ? UINT64_MAX : v * 10 + (uint64_t)(*at - '0');
	if (at == *s)
		return false;
	*s = at;
	*value = v;
	return true;
}

static enum range_result suffix_range(uint64_t count, uint64_t size, uint64_t *first,
				      uint64_t *last)
{
	if (!count || !size)
		return RANGE_UNSATISFIABLE;
	*first = count < size ? size - count : 0;
	*last = size - 1;
	return RANGE_ONE;
}

enum range_result range_parse(const char *s, size_t len, uint64_t size, uint64_t *first,
			      uint64_t *last)
{
	const char *end = s + len;
	uint64_t count;
	bool open;

	if (len < 7 || strncasecmp(s, "bytes=", 6))
		return RANGE_NONE;
	s += 6;
	if (*s == '-') {
		s++;
		return number(&s, end, &count) && s == end ? suffix_range(count, size, first, last)
							   : RANGE_NONE;
	}
	if (!number(&s, end, first) || s == end || *s++ != '-')
		return RANGE_NONE;
	open = s == end;
	if (!open && (!number(&s, end, last) || s != end || *last < *first))
		return RANGE_NONE;
	if (*first >= size)
		return RANGE_UNSATISFIABLE;
	if (open || *last >= size)
		*last = size - 1;
	return RANGE_ONE;
}

time_t http_date_parse(const char *s, size_t len)
{
	static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT",
					    "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"};
	char text[64];

	if (len >= sizeof(text))
		return -1;
	memcpy(text, s, len);
	text[len] = '\0';
	for (unsigned i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		struct tm tm = {0};
		const char *rest = strptime(text, forms[i], &tm);

		if (rest && !*rest)
			return timegm(&tm);
	}
	return -1;
}

bool etag_listed(const char *list, size_t len, const char *etag, bool strong)
{
	const char *at = list, *end = list + len;
	size_t etag_len = strlen(etag);

	while (at < end) {
		bool weak = false;
		const char *close;

		while (at < end && (*at == ' ' || *at == '\t' || *at == ','))
			at++;
		if (at < end && *at == '*')
			return true;
		if (end - at > 2 && at[0] == 'W' && at[1] == '/') {
			weak = true;
			at += 2;
		}
		if (at == end || *at != '"')
			return false;
		close = memchr(at + 1, '"', (size_t)(end - at - 1));
		if (!close)
			return false;
		close++;
		if (!(weak && strong) && (size_t)(close - at) == etag_len &&
		    !memcmp(at, etag, etag_len))
			return true;
		at = close;
	}
	return false;
}
