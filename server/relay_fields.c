// SPDX-License-Identifier: MIT
/*
 * Fields of an upload on their way into the head of the receivers' response. Pure: no I/O, no
 * allocation.
 *
 * A stranger's page must not run as one of this server. Which of several media types a browser
 * believes depends on the browser: the Fetch standard takes the last valid one of a comma list, and
 * some end a type at a blank or a parenthesis, or split inside of quotes that never end. So no type
 * is looked for: `text/html` is replaced wherever it stands as a token of its own.
 */
#include "relay.h"

#include <string.h>
#include <strings.h>

static const char html[] = "text/html";
#define HTML_LEN (sizeof(html) - 1)

static bool put(char *out, size_t size, size_t *at, const char *text, size_t len)
{
	if (len > size - *at)
		return false;
	memcpy(out + *at, text, len);
	*at += len;
	return true;
}

/* Whether the token at value[i] is text/html and nothing longer. */
static bool is_html(const char *value, size_t len, size_t i)
{
	return len - i >= HTML_LEN && !strncasecmp(value + i, html, HTML_LEN) &&
	       (!i || !http_tchar(value[i - 1])) &&
	       (len - i == HTML_LEN || !http_tchar(value[i + HTML_LEN]));
}

/* Line ends within a value fold it (RFC 9112 5.2); whoever passes it on makes blanks of them. */
static char unfolded(char ch)
{
	return ch == '\r' || ch == '\n' || !ch ? ' ' : ch;
}

bool relay_field(char *out, size_t size, size_t *at, const char *name, const char *value,
		 size_t len)
{
	bool type = !strcmp(name, "Content-Type");
	bool fits = put(out, size, at, name, strlen(name)) && put(out, size, at, ": ", 2);

	for (size_t i = 0; fits && i < len;) {
		if (type && is_html(value, len, i)) {
			fits = put(out, size, at, "text/plain", 10);
			i += HTML_LEN;
		} else {
			fits = put(out, size, at, &(char){unfolded(value[i])}, 1);
			i++;
		}
	}
	return fits && put(out, size, at, "\r\n", 2);
}
