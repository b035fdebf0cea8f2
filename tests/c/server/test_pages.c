// SPDX-License-Identifier: MIT
/* The relay's own pages: which paths they take, and that what is served there is whole. */
#include "test.h"

#include "pages.h"
#include "server.h"

#include <string.h>

static const char *const paths[] = {"/", "/help", "/version", "/robots.txt", "/favicon.ico"};
#define NR_PATHS (sizeof(paths) / sizeof(*paths))

static const struct page *find(const char *path)
{
	return page_find(path, strlen(path));
}

static bool reserved(const char *path)
{
	return page_reserved(path, strlen(path));
}

/* The page's text holds the words; it need not end in a NUL. */
static bool says(const struct page *page, const char *words)
{
	return memmem(page->body, page->len, words, strlen(words));
}

static void each_page_is_found_by_its_path_alone(void **state)
{
	for (unsigned i = 0; i < NR_PATHS; i++) {
		const struct page *page = find(paths[i]);

		assert_non_null(page);
		assert_string_equal(page->path, paths[i]);
		assert_true(reserved(paths[i]));
	}
	assert_null(find("/status")); /* it changes; the role makes it */
	assert_true(reserved("/status"));
}

static void other_paths_are_free_to_send_to(void **state)
{
	static const char *const others[] = {"",	  "//",	      "/a",	  "/Help",
					     "/help/",	  "/hel",     "help",	  "/help?",
					     "/status/x", "/statu",   "/Status",  "/%68elp",
					     "/versions", "/robots.", "/favicon", "/help/version"};

	for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++) {
		assert_null(find(others[i]));
		assert_false(reserved(others[i]));
	}
}

/* Paths come out of the middle of a request: what follows them is not theirs. */
static void the_length_counts_and_no_terminator(void **state)
{
	assert_ptr_equal(page_find("/helpless", 5), find("/help"));
	assert_ptr_equal(page_find("/help", 1), find("/"));
	assert_true(page_reserved("/status?x=y", 7));
	assert_null(page_find("/help\0", 6));
	assert_false(page_reserved("/", 0));
}

static void each_has_a_body_but_the_icon(void **state)
{
	for (unsigned i = 0; i < NR_PATHS; i++) {
		const struct page *page = find(paths[i]);

		if (!strcmp(paths[i], "/favicon.ico")) {
			assert_int_equal(page->status, 204);
			assert_int_equal(page->len, 0);
			assert_null(page->type);
			continue;
		}
		assert_int_equal(page->status, 200);
		assert_true(page->len > 0 && page->body[page->len - 1] == '\n');
		assert_null(memchr(page->body, '\0', page->len));
		assert_string_equal(page->type, strcmp(paths[i], "/") ? "text/plain; charset=utf-8"
								      : "text/html; charset=utf-8");
	}
}

static void help_names_every_reserved_path(void **state)
{
	const struct page *help = find("/help");
	char words[32];

	assert_true(says(help, "\n/ "));
	for (unsigned i = 1; i < NR_PATHS; i++) {
		snprintf(words, sizeof(words), " %s", paths[i]);
		assert_true(says(help, words));
	}
	assert_true(says(help, " /status "));
	assert_true(says(help, "curl -T"));
}

static void version_and_robots(void **state)
{
	const struct page *robots = find("/robots.txt");

	assert_true(says(find("/version"), SERVER_NAME " " SERVER_VERSION "\n"));
	assert_int_equal(robots->len, strlen("User-agent: *\nDisallow: /\n"));
	assert_memory_equal(robots->body, "User-agent: *\nDisallow: /\n", robots->len);
}

/* Whole from the first byte to the last, and nothing in it is fetched from elsewhere. */
static void the_html_page_stands_alone(void **state)
{
	static const char first[] = "<!doctype html>", last[] = "</html>\n";
	static const char *const foreign[] = {"http:",	 "https:", "src=",    "url(",
					      "@import", "<link",  "import(", "=\"//"};
	const struct page *page = find("/");

	assert_true(page->len > sizeof(first) + sizeof(last));
	assert_memory_equal(page->body, first, sizeof(first) - 1);
	assert_memory_equal(page->body + page->len - (sizeof(last) - 1), last, sizeof(last) - 1);
	for (unsigned i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
		assert_false(says(page, foreign[i]));
	assert_true(says(page, "location.origin")); /* whatever host it is served from */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_page_is_found_by_its_path_alone),
		cmocka_unit_test(other_paths_are_free_to_send_to),
		cmocka_unit_test(the_length_counts_and_no_terminator),
		cmocka_unit_test(each_has_a_body_but_the_icon),
		cmocka_unit_test(help_names_every_reserved_path),
		cmocka_unit_test(version_and_robots),
		cmocka_unit_test(the_html_page_stands_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
