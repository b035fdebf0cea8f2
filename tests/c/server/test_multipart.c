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

static void folded_fields_are_one_line(void **state)
{
	const char *text =
		"--XyZ\r\nContent-Disposition: form-data;\r\n\tname=\"a\"\r\nX: y\r\n\r\nhi";
	const char *want = "form-data;  \tname=\"a\"";
	struct multipart m;
	const char *value;
	size_t len;

	for (size_t step = 1; step <= strlen(text); step++) {
		scan(&m, text, strlen(text), step, step);
		assert_true(multipart_field(&m, "Content-Disposition", &value, &len));
		assert_int_equal(len, strlen(want));
		assert_memory_equal(value, want, len);
		assert_true(multipart_field(&m, "X", &value, &len));
		assert_int_equal(len, 1);
	}
}

/* Else an upload could put fields of its choice into the response that a receiver gets. */
static void controls_in_fields_are_refused(void **state)
{
	static const char bad[] = {'\n', '\r', '\0', '\v', '\f', 0x1f, 0x7f};
	char text[] = "--XyZ\r\nContent-Type: text/x?X-Other: y\r\n\r\nhi";
	const size_t len = sizeof(text) - 1;
	char *at = strchr(text, '?');
	struct multipart m;

	for (unsigned i = 0; i < sizeof(bad); i++) {
		*at = bad[i];
		for (size_t first = 1; first <= len; first++) {
			struct found f = scan(&m, text, len, first, len);

			assert_int_equal(f.last, MULTIPART_BAD);
			assert_false(f.head);
		}
	}
	*at = (char)0xc3; /* but names of files come in UTF-8 */
	assert_true(scan(&m, text, len, len, len).head);
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
		{"multipart/form-data; x=\"\\\"\"; boundary=abc", "\r\n--abc"},
		{"multipart/form-data; x=\"\\", NULL},
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

/* All texts of these bytes, by number. They are what a delimiter is made of. */
static void spell(char *out, unsigned len, unsigned number)
{
	for (unsigned i = 0; i < len; i++, number /= 4)
		out[i] = "\r\n-X"[number % 4];
}

static struct found scan_short(const char *text, size_t len, size_t first, size_t step)
{
	static const char type[] = "multipart/form-data; boundary=X";
	struct multipart m;
	struct found f = {0};

	assert_int_equal(multipart_init(&m, type, sizeof(type) - 1), 0);
	for (size_t at = 0, n = first;
	     at < len && f.last != MULTIPART_END && f.last != MULTIPART_BAD; at += n, n = step)
		feed(&m, text + at, n < len - at ? n : len - at, &f);
	return f;
}

#define EVERY_LEN 6

/* What memmem() finds in the whole is what the scanner must find in any two pieces, or bytes. */
static void every_short_body(void **state)
{
	static const char head[] = "--X\r\n\r\n", delim[] = "\r\n--X";
	char text[sizeof(head) + EVERY_LEN + sizeof(delim)];
	const char *body = text + sizeof(head) - 1;

	memcpy(text, head, sizeof(head) - 1);
	for (unsigned n = 0; n <= EVERY_LEN; n++) {
		size_t len = sizeof(head) - 1 + n + sizeof(delim) - 1;

		memcpy(text + len - (sizeof(delim) - 1), delim, sizeof(delim) - 1);
		for (unsigned number = 0; number < 1u << 2 * n; number++) {
			const char *end;

			spell(text + sizeof(head) - 1, n, number);
			end = memmem(body - 2, n + 2 + sizeof(delim) - 1, delim, sizeof(delim) - 1);
			for (size_t first = 1; first <= len; first++) {
				struct found f = scan_short(text, len, first, first == 1 ? 1 : len);

				assert_int_equal(f.last, MULTIPART_END);
				assert_int_equal(f.len, end > body ? end - body : 0);
				assert_memory_equal(f.data, body, f.len);
			}
		}
	}
}

/* In front of the first delimiter they must not matter, or spoil it in whatever pieces they come.
 */
static void every_short_preamble(void **state)
{
	static const char rest[] = "\r\n--X\r\n\r\nok\r\n--X--";
	char text[EVERY_LEN + sizeof(rest)];
	const size_t len = sizeof(text) - 1;

	memcpy(text + EVERY_LEN, rest, sizeof(rest));
	for (unsigned number = 0; number < 1u << 2 * EVERY_LEN; number++) {
		struct found whole;

		spell(text, EVERY_LEN, number);
		whole = scan_short(text, len, len, len);
		if (memcmp(text, "--X", 3) != 0 && !memmem(text, EVERY_LEN, "\r\n--X", 5)) {
			assert_int_equal(whole.last, MULTIPART_END);
			assert_int_equal(whole.len, 2);
		}
		for (size_t first = 1; first < len; first++) {
			struct found f = scan_short(text, len, first, first == 1 ? 1 : len);

			assert_int_equal(f.last, whole.last);
			assert_int_equal(f.len, whole.len);
			assert_memory_equal(f.data, whole.data, f.len);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_first_part_however_it_is_cut),
		cmocka_unit_test(empty_body_and_no_fields),
		cmocka_unit_test(what_only_looks_like_a_delimiter_is_data),
		cmocka_unit_test(fields_of_the_part),
		cmocka_unit_test(folded_fields_are_one_line),
		cmocka_unit_test(controls_in_fields_are_refused),
		cmocka_unit_test(boundaries),
		cmocka_unit_test(no_part_at_all),
		cmocka_unit_test(every_short_body),
		cmocka_unit_test(every_short_preamble),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
