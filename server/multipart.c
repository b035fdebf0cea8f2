// SPDX-License-Identifier: MIT
#include "multipart.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum state {
	PREAMBLE, /* before the first delimiter, which needs no line of its own at the very start */
	AFTER,	  /* behind the delimiter: blanks, or "--" for the end of everything */
	HEAD_LINE, /* collecting the part's header fields */
	BODY,
	OVER
};

static bool is_blank(char ch)
{
	return ch == ' ' || ch == '\t';
}

/* The value of parameter boundary=; NULL when there is none. Quoted pairs are not allowed in it. */
static const char *find_boundary(const char *s, const char *end, size_t *len)
{
	static const char name[] = "boundary=";
	const size_t n = sizeof(name) - 1;
	bool quoted = false;

	for (; s < end; s++) {
		if (quoted && *s == '\\' && end - s > 1) {
			s++; /* of another parameter: what it stands before ends nothing */
			continue;
		}
		quoted ^= *s == '"';
		if (quoted || *s != ';')
			continue;
		do
			s++;
		while (s < end && is_blank(*s));
		if ((size_t)(end - s) <= n || strncasecmp(s, name, n)) {
			s--;
			continue;
		}
		s += n;
		if (*s == '"') {
			const char *close = memchr(s + 1, '"', (size_t)(end - s) - 1);

			*len = close ? (size_t)(close - s) - 1 : 0;
			return s + 1;
		}
		for (*len = 0; s + *len < end && s[*len] != ';' && !is_blank(s[*len]);)
			++*len;
		return s;
	}
	return NULL;
}

int multipart_init(struct multipart *m, const char *content_type, size_t len)
{
	size_t n = 0;
	const char *boundary = find_boundary(content_type, content_type + len, &n);

	if (!boundary || !n || n > MULTIPART_BOUNDARY_MAX || memchr(boundary, '\r', n))
		return -EINVAL;
	m->state = PREAMBLE;
	memcpy(m->delim, "\r\n--", 4);
	memcpy(m->delim + 4, boundary, n);
	m->delim_len = (uint8_t)(4 + n);
	m->matched = m->unreal = 2; /* the body begins as if behind a line end */
	m->owed = 0;
	m->head_len = 0;
	return 0;
}

/*
 * Looks for the delimiter. Returns the bytes of buf that surely are before it; *found when it ends
 * at *used. At the end of buf a beginning of the delimiter is remembered in m->matched. Bytes that
 * an earlier call had taken for such a beginning, in vain, are in m->owed_bytes.
 *
 * CR occurs in the delimiter only as its first byte (boundaries have none), so a match that breaks
 * can begin again nowhere but at a CR.
 */
static size_t find_delimiter(struct multipart *m, const char *buf, size_t len, size_t *used,
			     bool *found)
{
	size_t at = 0;

	*found = false;
	while (at < len) {
		if (!m->matched) {
			const char *cr = memchr(buf + at, '\r', len - at);

			if (!cr)
				break;
			at = (size_t)(cr - buf) + 1;
			m->matched = 1;
			continue;
		}
		if (buf[at] != m->delim[m->matched]) {
			if (m->matched > at + m->unreal) { /* some came in an earlier call */
				m->owed = (uint8_t)(m->matched - at - m->unreal);
				memcpy(m->owed_bytes, m->delim + m->unreal, m->owed);
			}
			m->matched = m->unreal = 0;
			if (m->owed) { /* they come first, then buf from its beginning */
				*used = 0;
				return 0;
			}
			continue;
		}
		at++;
		if (++m->matched == m->delim_len) {
			*found = true;
			*used = at;
			return at > m->delim_len ? at - m->delim_len : 0;
		}
	}
	*used = len;
	return len > m->matched ? len - m->matched : 0;
}

static enum multipart_event in_preamble(struct multipart *m, const char *buf, size_t len,
					size_t *used)
{
	bool found;

	do {
		m->owed = 0; /* of no interest here */
		find_delimiter(m, buf, len, used, &found);
	} while (m->owed);
	if (found) {
		m->state = AFTER;
		m->matched = m->unreal = 0;
	}
	return MULTIPART_MORE;
}

/* "--" behind the delimiter ends everything; blanks and a line end begin a part. */
static enum multipart_event behind_delimiter(struct multipart *m, const char *buf, size_t *used)
{
	*used = 1;
	if (*buf == '-')
		return MULTIPART_BAD; /* the end, and no part was there */
	if (*buf == '\n') {
		m->state = HEAD_LINE;
		return MULTIPART_MORE;
	}
	return is_blank(*buf) || *buf == '\r' ? MULTIPART_MORE : MULTIPART_BAD;
}

static bool head_complete(const struct multipart *m)
{
	return (m->head_len == 2 && !memcmp(m->head, "\r\n", 2)) ||
	       (m->head_len >= 4 && !memcmp(m->head + m->head_len - 4, "\r\n\r\n", 4));
}

/*
 * Fields go on to receivers in the head of a response. There a lone CR or LF, or another control,
 * would let an upload write fields of its own (RFC 9110 5.5), so it spoils the whole part.
 */
static bool may_come_next(const struct multipart *m, char ch)
{
	bool behind_cr = m->head_len && m->head[m->head_len - 1] == '\r';

	if (behind_cr || ch == '\n')
		return behind_cr && ch == '\n';
	return ch == '\r' || ch == '\t' || ((unsigned char)ch >= ' ' && ch != 0x7f);
}

/* A line that begins with a blank goes on with the field before it (RFC 5322 2.2.3). */
static void unfold(struct multipart *m, char ch)
{
	if (is_blank(ch) && m->head_len > 2 && m->head[m->head_len - 1] == '\n')
		memset(m->head + m->head_len - 2, ' ', 2);
}

static enum multipart_event in_head(struct multipart *m, const char *buf, size_t len, size_t *used)
{
	for (*used = 0; *used < len;) {
		if (m->head_len == sizeof(m->head) || !may_come_next(m, buf[*used]))
			return MULTIPART_BAD;
		unfold(m, buf[*used]);
		m->head[m->head_len++] = buf[(*used)++];
		if (!head_complete(m))
			continue;
		m->state = BODY;
		m->matched = m->unreal =
			2; /* an empty body's delimiter has used up the head's last line end */
		return MULTIPART_HEAD;
	}
	return MULTIPART_MORE;
}

static enum multipart_event in_body(struct multipart *m, const char *buf, size_t len, size_t *used,
				    const char **data, size_t *data_len)
{
	bool found;

	*data = buf;
	*data_len = find_delimiter(m, buf, len, used, &found);
	if (found)
		m->state = OVER;
	if (m->owed) {
		*data = m->owed_bytes;
		*data_len = m->owed;
		m->owed = 0;
		return MULTIPART_DATA;
	}
	if (*data_len)
		return MULTIPART_DATA;
	return found ? MULTIPART_END : MULTIPART_MORE;
}

static enum multipart_event step(struct multipart *m, const char *buf, size_t len, size_t *used,
				 const char **data, size_t *data_len)
{
	switch (m->state) {
	case PREAMBLE:
		return in_preamble(m, buf, len, used);
	case AFTER:
		return behind_delimiter(m, buf, used);
	case HEAD_LINE:
		return in_head(m, buf, len, used);
	case BODY:
		return in_body(m, buf, len, used, data, data_len);
	default:
		return MULTIPART_END;
	}
}

enum multipart_event multipart_feed(struct multipart *m, const char *buf, size_t len, size_t *used,
				    const char **data, size_t *data_len)
{
	enum multipart_event ev = MULTIPART_MORE;
	size_t n;

	*used = 0;
	if (m->state == OVER)
		return MULTIPART_END;
	while (ev == MULTIPART_MORE && *used < len) {
		n = 0;
		ev = step(m, buf + *used, len - *used, &n, data, data_len);
		*used += n;
	}
	return ev;
}

bool multipart_field(const struct multipart *m, const char *name, const char **value, size_t *len)
{
	const char *line = m->head, *end = m->head + m->head_len, *eol;
	const size_t n = strlen(name);
	bool found = false;

	for (; line < end && (eol = memmem(line, (size_t)(end - line), "\r\n", 2));
	     line = eol + 2) {
		const char *v = line + n + 1;

		if ((size_t)(eol - line) <= n || line[n] != ':' || strncasecmp(line, name, n))
			continue;
		while (v < eol && is_blank(*v))
			v++;
		*value = v;
		*len = (size_t)(eol - v);
		while (*len && is_blank(v[*len - 1]))
			--*len;
		found = true;
	}
	return found;
}
