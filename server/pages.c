// SPDX-License-Identifier: MIT
#include "pages.h"

#include "page_html.h" /* made by CMake from page.html */
#include "server.h"

#include <string.h>

static const char help[] =
	"A relay: what one side sends under a name, the other side receives, as it comes.\n"
	"Either side may come first. Nothing is stored.\n"
	"\n"
	"Send a file:          curl -T FILE http://HOST/name\n"
	"Receive it:           curl http://HOST/name > FILE\n"
	"Send what is made:    tar c DIR | curl -T - http://HOST/name\n"
	"To three receivers:   curl -T FILE 'http://HOST/name?n=3', and each of them with ?n=3\n"
	"From a browser:       http://HOST/\n"
	"Who is moving what:   http://HOST/status\n"
	"\n"
	"The sender's fields Content-Type, Content-Disposition and X-Piping reach the receivers.\n"
	"Of a form upload the first part is sent. Names are paths; these are taken:\n"
	"/ /version /help /status /favicon.ico /robots.txt\n";

static const char version[] = SERVER_NAME " " SERVER_VERSION "\n";
static const char robots[] = "User-agent: *\nDisallow: /\n";

#define TEXT "text/plain; charset=utf-8"
#define PAGE(p, t, b)                                                                \
	{                                                                            \
		.path = p, .type = t, .body = b, .len = sizeof(b) - 1, .status = 200 \
	}

static const struct page pages[] = {
	{.path = "/",
	 .type = "text/html; charset=utf-8",
	 .body = (const char *)page_html,
	 .len = sizeof(page_html),
	 .status = 200},
	PAGE("/help", TEXT, help),
	PAGE("/version", TEXT, version),
	PAGE("/robots.txt", TEXT, robots),
	{.path = "/favicon.ico", .status = 204},
};

static bool is(const char *path, size_t len, const char *name)
{
	return strlen(name) == len && !memcmp(path, name, len);
}

const struct page *page_find(const char *path, size_t len)
{
	for (unsigned i = 0; i < sizeof(pages) / sizeof(*pages); i++)
		if (is(path, len, pages[i].path))
			return &pages[i];
	return NULL;
}

bool page_reserved(const char *path, size_t len)
{
	return page_find(path, len) || is(path, len, "/status");
}
