// SPDX-License-Identifier: MIT
/* The scanner of uploads by form: every way to cut the input must give the same first part. */
#include "test.h"

#include "multipart.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TYPE "multipart/form-data; boundary=XyZ"

/* Input that ends at a page nobody may touch: a read beyond it is seen without a sanitizer, too. */
static char *guarded(const char *text, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = len / page + 1;
	char *base = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(base != MAP_FAILED);
	assert_int_equal(mprotect(base + pages * page, page, PROT_NONE), 0);
	return memcpy(base + pages * page - len, text, len);
}

static void unguard(char *text, size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = len / page + 1;

	munmap(text + len - pages * page, (pages + 1) * page);
}

struct found {
	enum multipart_event last;
	bool head;
	size_t len;
	char data[4096];
};

static void feed(struct multipart *m, const char *buf, size_t len, struct found *f)
{
	const char *data = NULL;
	size_t used, n = 0;

	do {
		f->last = multipart_feed(m, buf, len, &used, &data, &n);
		assert_true(used <= len);
		buf += used;
		len -= used;
		if (f->last == MULTIPART_HEAD)
			f->head = true;
		if (f->last == MULTIPART_DATA) {
			assert_true(n > 0 && f->len + n <= sizeof(f->data));
			memcpy(f->data + f->len, data, n);
			f->len += n;
		}
	} while (f->last == MULTIPART_HEAD || f->last == MULTIPART_DATA);
}

/* In pieces of `step` bytes, the first one of `first`. */
static struct found scan(struct multipart *m, const char *text, size_t len, size_t first,
			 size_t step)
{
	struct found f = {0};

	assert_int_equal(multipart_init(m, TYPE, strlen(TYPE)), 0);
	for (size_t at = 0, n = first;
	     at < len && f.last != MULTIPART_END && f.last != MULTIPART_BAD; at += n, n = step) {
		size_t part = n < len - at ? n : len - at;
		char *piece = guarded(text + at, part);

		feed(m, piece, part, &f);
		unguard(piece, part);
	}
	return f;
}

static void expect(const char *text, const char *body)
{
	struct multipart m;
	size_t len = strlen(text);

	for (size_t first = 1; first <= len; first++) {
		for (size_t step = 1; step <= len; step = step == 1 ? len : len + 1) {
			struct found f = scan(&m, text, len, first, step);

			assert_int_equal(f.last, MULTIPART_END);
			assert_true(f.head);
			assert_int_equal(f.len, strlen(body));
			assert_memory_equal(f.data, body, f.len);
		}
	}
}

#define PART                                                                               \
	"Content-Disposition: form-data; name=\"a\"; filename=\"b.txt\"\r\nContent-Type: " \
	"text/x\r\n"

static void finds_the_first_part_however_it_is_cut(void **state)
{
	expect("--XyZ\r\n" PART "\r\nhello\r\n--XyZ--\r\n", "hello");
	expect("--XyZ\r\n" PART "\r\nhello\r\n--XyZ\r\n" PART "\r\nother\r\n--XyZ--", "hello");
	expect("preamble\r\nof lines\r\n--XyZ \t\r\n" PART "\r\nhello\r\n--XyZ--", "hello");
	expect("\r\n--XyZ\r\n" PART "\r\nhello\r\n--XyZ--", "hello");
}

static void empty_body_and_no_fields(void **state)
{
	expect("--XyZ\r\n" PART "\r\n\r\n--XyZ--", "");
	expect("--XyZ\r\n\r\nx\r\n--XyZ--", "x");
	expect("--XyZ\r\n\r\n\r\n--XyZ--", "");
	expect("--XyZ\r\n\r\n--XyZ--", "");
}

static void what_only_looks_like_a_delimiter_is_data(void **state)
{
	expect("--XyZ\r\n\r\n\r\n--Xy\r\n--XyA\r\r\n\r\n-\r\n--XyZ--",
	       "\r\n--Xy\r\n--XyA\r\r\n\r\n-");
	expect("--XyZ\r\n\r\n--Xy\r\n--XyZ--", "--Xy");
	expect("--XyZ\r\n\r\n-\r\n--XyZ--", "-");
	expect("--XyZ\r\n\r\n\r\r\r\n--XyZ--", "\r\r");
	expect("--Xy\r\n--XyZ\r\n\r\nx\r\n--XyZ--", "x");
}

static void fields_of_the_part(void **state)
{
	const char *text = "--XyZ\r\n" PART "X-Empty:\r\n\r\nhello";
	struct multipart m;
	const char *value;
	size_t len;

	scan(&m, text, strlen(text), 7, 3);
	assert_true(multipart_field(&m, "content-type", &value, &len));
	assert_int_equal(len, 6);
	assert_memory_equal(value, "text/x", 6);
	assert_true(multipart_field(&m, "X-Empty", &value, &len));
	assert_int_equal(len, 0);
	assert_false(multipart_field(&m, "Content", &value, &len));
	assert_false(multipart_field(&m, "X-Other", &value, &len));
}

static void boundaries(void **state)
{
	static const struct {
		const char *type;
		const char *delim; /* NULL: none usable */
	} cases[] = {
		{"multipart/form-data; boundary=abc", "\r\n--abc"},
		{"multipart/form-data; charset=x;boundary=abc; y=z", "\r\n--abc"},
		{"multipart/form-data; boundary=\"a b;c\"", "\r\n--a b;c"},
		{"multipart/form-data; x=\"; boundary=no\"; BOUNDARY=yes", "\r\n--yes"},
		{"multipart/form-data", NULL},
		{"multipart/form-data; boundary=", NULL},
		{"multipart/form-data; boundary=\"\"", NULL},
		{"multipart/form-data; boundary=\"open", NULL},
		{"multipart/form-data; xboundary=abc", NULL},
		{"multipart/form-data; boundary="
		 "12345678901234567890123456789012345678901234567890123456789012345678901",
		 NULL},
	};
	struct multipart m;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t len = strlen(cases[i].type);
		char *type = guarded(cases[i].type, len);
		int res = multipart_init(&m, type, len);

		unguard(type, len);
		assert_int_equal(res == 0, cases[i].delim != NULL);
		if (!cases[i].delim)
			continue;
		assert_int_equal(m.delim_len, strlen(cases[i].delim));
		assert_memory_equal(m.delim, cases[i].delim, m.delim_len);
	}
}

static void no_part_at_all(void **state)
{
	char *huge = malloc(6000);
	struct multipart m;
	struct found f;

	f = scan(&m, "--XyZ--\r\n", 9, 1, 1);
	assert_int_equal(f.last, MULTIPART_BAD);
	f = scan(&m, "--XyZabc\r\n", 10, 1, 1);
	assert_int_equal(f.last, MULTIPART_BAD);
	f = scan(&m, "nothing here", 12, 12, 12);
	assert_int_equal(f.last, MULTIPART_MORE);
	memset(huge, 'h', 6000);
	memcpy(huge, "--XyZ\r\n", 7);
	f = scan(&m, huge, 6000, 1000, 1000);
	assert_int_equal(f.last, MULTIPART_BAD);
	free(huge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_first_part_however_it_is_cut),
		cmocka_unit_test(empty_body_and_no_fields),
		cmocka_unit_test(what_only_looks_like_a_delimiter_is_data),
		cmocka_unit_test(fields_of_the_part),
		cmocka_unit_test(boundaries),
		cmocka_unit_test(no_part_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
