/* SPDX-License-Identifier: MIT */
/* Strict HTTP/1.x response head parser; head.h says why it is one of our own. */
#include "head.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

/* "HTTP/1.1 200 ": what the first line has at fixed places. */
#define VERSION_PREFIX "HTTP/1."
#define MINOR_AT       7
#define STATUS_AT      9
#define REASON_AT      13

/* A piece of the head, not terminated. */
struct text {
	const char *at;
	size_t len;
};

bool head_plausible(const char *buf, size_t len)
{
	size_t known = sizeof(VERSION_PREFIX) - 1;

	return memcmp(buf, VERSION_PREFIX, len < known ? len : known) == 0;
}

ssize_t head_find_end(const char *buf, size_t len, size_t from)
{
	const char *end = buf + len;
	const char *at = buf + from;

	while (at < end) {
		const char *lf = memchr(at, '\n', (size_t)(end - at));
		if (!lf)
			return 0;
		if (lf == buf || lf[-1] != '\r')
			return -EBADMSG;
		if (lf - buf >= 2 && lf[-2] == '\n')
			return lf - buf + 1;
		at = lf + 1;
	}
	return 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* RFC 9110 5.6.2: characters of a field name. */
static bool is_token_char(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* RFC 9110 5.5: visible characters, space, tab, and bytes above ASCII. */
static bool is_field_text(struct text t)
{
	for (size_t i = 0; i < t.len; i++) {
		unsigned char c = (unsigned char)t.at[i];
		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static struct text trim(struct text t)
{
	while (t.len && (t.at[0] == ' ' || t.at[0] == '\t')) {
		t.at++;
		t.len--;
	}
	while (t.len && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
		t.len--;
	return t;
}

static bool equals(struct text t, const char *word)
{
	return t.len == strlen(word) && strncasecmp(t.at, word, t.len) == 0;
}

static const char *parse_status_line(struct text line, struct head *head)
{
	if (line.len < REASON_AT || memcmp(line.at, VERSION_PREFIX, MINOR_AT) != 0)
		return "the first line is not an HTTP/1.x status line";
	if (line.at[MINOR_AT] != '0' && line.at[MINOR_AT] != '1')
		return "the HTTP version is neither 1.0 nor 1.1";
	if (line.at[MINOR_AT + 1] != ' ' || line.at[REASON_AT - 1] != ' ')
		return "a single space is missing around the status code";
	for (int i = 0; i < 3; i++) {
		if (!is_digit(line.at[STATUS_AT + i]))
			return "the status code is not three digits";
	}
	head->status =
		(uint16_t)((line.at[STATUS_AT] - '0') * 100 + (line.at[STATUS_AT + 1] - '0') * 10 +
			   (line.at[STATUS_AT + 2] - '0'));
	if (head->status < 100 || head->status > 599)
		return "the status code is outside 100 to 599";
	if (!is_field_text((struct text){line.at + REASON_AT, line.len - REASON_AT}))
		return "the reason phrase holds control characters";
	head->keep_alive = line.at[MINOR_AT] == '1';
	return NULL;
}

static const char *parse_length(struct text value, struct head *head)
{
	uint64_t length = 0;

	if (head->has_length)
		return "Content-Length is given twice";
	if (!value.len)
		return "Content-Length is empty";
	for (size_t i = 0; i < value.len; i++) {
		if (!is_digit(value.at[i]))
			return "Content-Length is not a decimal number";
		if (__builtin_mul_overflow(length, 10u, &length) ||
		    __builtin_add_overflow(length, (uint64_t)(value.at[i] - '0'), &length) ||
		    length > INT64_MAX)
			return "Content-Length is too large";
	}
	head->content_length = length;
	head->has_length = true;
	return NULL;
}

/* RFC 9112 9.3: "close" ends an HTTP/1.1 connection, "keep-alive" keeps an HTTP/1.0 one. */
static const char *parse_connection(struct text value, struct head *head, bool *closes)
{
	while (value.len) {
		const char *comma = memchr(value.at, ',', value.len);
		size_t len = comma ? (size_t)(comma - value.at) : value.len;
		struct text option = trim((struct text){value.at, len});

		if (equals(option, "close"))
			*closes = true;
		else if (equals(option, "keep-alive"))
			head->keep_alive = true;
		len += comma ? 1 : 0;
		value.at += len;
		value.len -= len;
	}
	return NULL;
}

static const char *parse_field(struct text line, struct head *head, bool *closes)
{
	const char *colon = memchr(line.at, ':', line.len);
	struct text name = {line.at, colon ? (size_t)(colon - line.at) : 0};

	if (!name.len)
		return "a header line has no field name";
	for (size_t i = 0; i < name.len; i++) {
		if (!is_token_char(name.at[i]))
			return "a field name holds a character that is not allowed there";
	}
	struct text value = trim((struct text){colon + 1, line.len - name.len - 1});
	if (!is_field_text(value))
		return "a field value holds control characters";
	if (equals(name, "Content-Length"))
		return parse_length(value, head);
	if (equals(name, "Transfer-Encoding"))
		return "Transfer-Encoding (chunked) is not supported";
	if (equals(name, "Connection"))
		return parse_connection(value, head, closes);
	return NULL;
}

/* Cuts the next line off; head_find_end() has made sure that every one ends in CRLF. */
static struct text next_line(struct text *rest)
{
	const char *lf = memchr(rest->at, '\n', rest->len);
	struct text line = {rest->at, (size_t)(lf - rest->at) - 1};

	rest->at += line.len + 2;
	rest->len -= line.len + 2;
	return line;
}

const char *head_parse(const char *buf, size_t len, struct head *head)
{
	struct text rest = {buf, len};
	bool closes = false;

	*head = (struct head){.len_bytes = (uint32_t)len};
	const char *why = parse_status_line(next_line(&rest), head);
	while (!why) {
		struct text line = next_line(&rest);
		if (!line.len)
			break;
		why = parse_field(line, head, &closes);
	}
	if (closes)
		head->keep_alive = false;
	return why;
}
