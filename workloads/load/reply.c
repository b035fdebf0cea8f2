/* SPDX-License-Identifier: MIT */
#include "reply.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void reply_init(struct reply *r)
{
	r->state = REPLY_HEAD;
	r->chunked = r->to_eof = r->close = false;
	r->status = 0;
	r->have = 0;
	r->left = 0;
}

/* The value of a field of the head, which ends with CR; NULL without it. */
static const char *field(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, len) == 0 && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " \t");
	}
	return NULL;
}

/* At the end of a field's value or of a chunk's size, blanks before it aside. */
static bool at_end(const char *text, const char *ends)
{
	text += strspn(text, " \t");
	return *text && strchr(ends, *text);
}

/* A value that is a decimal number and nothing else, below 10^19. */
static bool parse_length(const char *value, uint64_t *length)
{
	size_t digits = strspn(value, "0123456789");

	if (!digits || digits > 19 || !at_end(value + digits, "\r"))
		return false;
	*length = strtoull(value, NULL, 10);
	return true;
}

/* The status of "HTTP/1.0 200 ..." or HTTP/1.1, from 100 to 599; 0 for anything else. */
static int parse_status(const char *line)
{
	if (strncmp(line, "HTTP/1.0 ", 9) != 0 && strncmp(line, "HTTP/1.1 ", 9) != 0)
		return 0;
	line += 9;
	if (line[0] < '1' || line[0] > '5' || strspn(line, "0123456789") != 3 ||
	    (line[3] != ' ' && line[3] != '\r'))
		return 0;
	return atoi(line);
}

/* As strict as head.c: whoever answers has no excuse for a framing that can be read in two ways. */
static void begin_body(struct reply *r)
{
	const char *length = field(r->text, "Content-Length");
	const char *coding = field(r->text, "Transfer-Encoding");
	const char *connection = field(r->text, "Connection");

	r->close = (connection && strncasecmp(connection, "close", 5) == 0) ||
		   strncmp(r->text, "HTTP/1.0", 8) == 0;
	if (coding) {
		bool chunked = strncasecmp(coding, "chunked", 7) == 0 && at_end(coding + 7, "\r");

		r->chunked = true;
		r->state = chunked && !length ? REPLY_SIZE : REPLY_BAD;
	} else if (length) {
		if (!parse_length(length, &r->left) || field(length, "Content-Length"))
			r->state = REPLY_BAD;
		else
			r->state = r->left ? REPLY_BODY : REPLY_DONE;
	} else {
		r->to_eof = r->close = true;
		r->left = UINT64_MAX;
		r->state = REPLY_BODY;
	}
}

static void end_head(struct reply *r)
{
	r->text[r->have] = '\0';
	r->have = 0;
	r->status = parse_status(r->text);
	if (!r->status)
		r->state = REPLY_BAD;
	else if (r->status >= 200) /* 1xx: the final response is still to come */
		begin_body(r);
}

static void end_size(struct reply *r)
{
	size_t digits;

	r->text[r->have] = '\0';
	r->have = 0;
	digits = strspn(r->text, "0123456789abcdefABCDEF");
	r->left = strtoull(r->text, NULL, 16);
	if (!digits || digits > 15 || !at_end(r->text + digits, ";\r"))
		r->state = REPLY_BAD;
	else
		r->state = r->left ? REPLY_BODY : REPLY_TRAILER;
}

/* A line, or the head, is complete when `end` stands at its end. */
static bool ends_with(const struct reply *r, const char *end)
{
	size_t len = strlen(end);

	return r->have >= len && memcmp(r->text + r->have - len, end, len) == 0;
}

static void take_byte(struct reply *r, char byte)
{
	if (r->have == sizeof(r->text) - 1) {
		r->state = REPLY_BAD;
		return;
	}
	r->text[r->have++] = byte;
	switch (r->state) {
	case REPLY_HEAD:
		if (ends_with(r, "\r\n\r\n"))
			end_head(r);
		break;
	case REPLY_SIZE:
		if (ends_with(r, "\r\n"))
			end_size(r);
		break;
	case REPLY_GAP:
		if (r->have < 2)
			break;
		r->state = ends_with(r, "\r\n") ? REPLY_SIZE : REPLY_BAD;
		r->have = 0;
		break;
	default: /* REPLY_TRAILER */
		if (r->have == 2 && ends_with(r, "\r\n"))
			r->state = REPLY_DONE;
		else if (ends_with(r, "\r\n"))
			r->have = 0;
	}
}

size_t reply_feed(struct reply *r, const char *buf, size_t len)
{
	size_t used = 0;

	while (used < len && r->state != REPLY_BODY && r->state != REPLY_DONE &&
	       r->state != REPLY_BAD)
		take_byte(r, buf[used++]);
	return used;
}

void reply_took(struct reply *r, uint64_t n)
{
	if (r->to_eof)
		return;
	r->left -= n;
	if (r->left)
		return;
	r->have = 0;
	r->state = r->chunked ? REPLY_GAP : REPLY_DONE;
}

bool reply_eof(struct reply *r)
{
	if (r->state == REPLY_BODY && r->to_eof)
		r->state = REPLY_DONE;
	return r->state == REPLY_DONE;
}
