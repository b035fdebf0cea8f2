/* SPDX-License-Identifier: MIT */
#include "hdr_log.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clocks.h"

#define COOKIE_COMPRESSED  0x1c849314u
#define COOKIE_COUNTS	   0x1c849313u
#define HEAD_BYTES	   40
#define SIGNIFICANT_DIGITS 2 /* 2 * 10^2 values need 256 buckets below the first octave */

/* What a reader makes room for at least: an hour. */
#define HIGHEST_NS (3600 * NS_PER_S)

/* A count takes at most 10 bytes of 7 bits; in HdrHistogram 9, the last one of 8 bits. */
#define COUNT_BYTES 9

/* A stored block of zlib data, and what stands around all of them. */
#define STORED_MAX_BYTES  65535
#define STORED_HEAD_BYTES 5
#define ZLIB_AROUND_BYTES 6
#define ADLER_MODULUS	  65521

_Static_assert(1u << (HIST_SUB_BITS + 1) == 256, "SIGNIFICANT_DIGITS must fit HIST_SUB_BITS");

static uint8_t *put32(uint8_t *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put64(uint8_t *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

/* ZigZag LEB128, seven bits a byte and the lowest first; the ninth byte holds eight. */
static uint8_t *put_count(uint8_t *at, int64_t count)
{
	uint64_t bits = ((uint64_t)count << 1) ^ (uint64_t)(count >> 63);

	for (int i = 1; i < COUNT_BYTES && bits >> 7; i++) {
		*at++ = (uint8_t)(bits | 0x80);
		bits >>= 7;
	}
	*at++ = (uint8_t)bits;
	return at;
}

/* The counts up to the last one that is not 0. */
static uint8_t *put_counts(uint8_t *at, const struct hist *h)
{
	size_t nr = h->nr ? hist_index(h->max) + 1 : 0;
	int64_t empty = 0;

	for (size_t i = 0; i < nr; i++) {
		if (!h->count[i]) {
			empty++;
			continue;
		}
		if (empty)
			at = put_count(at, empty == 1 ? 0 : -empty);
		empty = 0;
		at = put_count(at, (int64_t)h->count[i]);
	}
	return at;
}

/* The uncompressed form; `at` has room for all counts. */
static size_t put_histogram(uint8_t *at, const struct hist *h)
{
	const double ratio = 1.0;
	uint64_t highest = h->max > HIGHEST_NS ? h->max : HIGHEST_NS, bits;
	uint8_t *end = put_counts(at + HEAD_BYTES, h);
	size_t len = (size_t)(end - at);

	memcpy(&bits, &ratio, sizeof(bits));
	at = put32(at, COOKIE_COUNTS);
	at = put32(at, (uint32_t)(len - HEAD_BYTES));
	at = put32(at, 0);
	at = put32(at, SIGNIFICANT_DIGITS);
	at = put64(at, 1);
	at = put64(at, highest);
	put64(at, bits);
	return len;
}

static uint32_t adler32(const uint8_t *bytes, size_t len)
{
	uint32_t a = 1, b = 0;

	for (size_t i = 0; i < len; i++) {
		a = (a + bytes[i]) % ADLER_MODULUS;
		b = (b + a) % ADLER_MODULUS;
	}
	return b << 16 | a;
}

/* zlib data that hold the bytes as they are. */
static size_t put_stored(uint8_t *at, const uint8_t *bytes, size_t len)
{
	uint8_t *begin = at;
	const uint32_t sum = adler32(bytes, len);

	*at++ = 0x78; /* deflate, window of 32 KiB */
	*at++ = 0x01; /* no dictionary; makes both bytes a multiple of 31 */
	do {
		uint16_t part = (uint16_t)(len < STORED_MAX_BYTES ? len : STORED_MAX_BYTES);
		*at++ = part == len; /* the last block; of the stored kind */
		*at++ = (uint8_t)part;
		*at++ = (uint8_t)(part >> 8);
		*at++ = (uint8_t)~part;
		*at++ = (uint8_t)(~part >> 8);
		memcpy(at, bytes, part);
		at += part;
		bytes += part;
		len -= part;
	} while (len);
	return (size_t)(put32(at, sum) - begin);
}

static char *base64(const uint8_t *bytes, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((len + 2) / 3 * 4 + 1), *at = text;

	for (size_t i = 0; text && i < len; i += 3) {
		size_t rest = len - i;
		uint32_t bits = (uint32_t)bytes[i] << 16;
		bits |= rest > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
		bits |= rest > 2 ? bytes[i + 2] : 0;
		*at++ = digits[bits >> 18];
		*at++ = digits[bits >> 12 & 63];
		*at++ = rest > 1 ? digits[bits >> 6 & 63] : '=';
		*at++ = rest > 2 ? digits[bits & 63] : '=';
	}
	if (text)
		*at = '\0';
	return text;
}

char *hdr_encode(const struct hist *h)
{
	const size_t plain_bytes = HEAD_BYTES + 2 * COUNT_BYTES * (size_t)HIST_BUCKETS;
	const size_t around =
		ZLIB_AROUND_BYTES + STORED_HEAD_BYTES * (plain_bytes / STORED_MAX_BYTES + 1);
	uint8_t *plain = malloc(plain_bytes);
	uint8_t *framed = malloc(8 + around + plain_bytes);
	char *text = NULL;

	if (plain && framed) {
		size_t len = put_stored(framed + 8, plain, put_histogram(plain, h));
		put32(put32(framed, COOKIE_COMPRESSED), (uint32_t)len);
		text = base64(framed, 8 + len);
	}
	free(plain);
	free(framed);
	return text;
}

static double seconds(uint64_t ns)
{
	return (double)ns / (double)NS_PER_S;
}

int hdr_log_open(struct hdr_log *log, const char *path)
{
	struct timespec now;
	double base_s;

	*log = (struct hdr_log){.base_ns = mono_ns()};
	if (!path)
		return 0;
	clock_gettime(CLOCK_REALTIME, &now);
	base_s = seconds(timespec_ns(&now));
	log->file = fopen(path, "we");
	if (!log->file)
		return -errno;
	fprintf(log->file,
		"#[iolab-load: latencies in ns]\n"
		"#[Histogram log format version 1.3]\n"
		"#[StartTime: %.3f (seconds since epoch)]\n"
		"#[BaseTime: %.3f (seconds since epoch)]\n"
		"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\","
		"\"Interval_Compressed_Histogram\"\n",
		base_s, base_s);
	return fflush(log->file) == EOF ? -errno : 0;
}

int hdr_log_append(struct hdr_log *log, uint64_t start_ns, uint64_t window_ns, const struct hist *h)
{
	if (!log->file)
		return 0;
	char *text = hdr_encode(h);
	if (!text)
		return -ENOMEM;
	/* The maximum is in ms, as in the logs of others; readers take it from the histogram. */
	int nr = fprintf(log->file, "%.3f,%.3f,%.6f,%s\n", seconds(start_ns - log->base_ns),
			 seconds(window_ns), (double)h->max / (double)NS_PER_MS, text);
	free(text);
	return nr < 0 || fflush(log->file) == EOF ? -errno : 0;
}

void hdr_log_close(struct hdr_log *log)
{
	if (log->file)
		fclose(log->file);
	log->file = NULL;
}
