// SPDX-License-Identifier: MIT
/* Role file: HTTP files from beneath a root (RFC 9110: methods, conditions, ranges). */
#include "file_cache.h"
#include "response.h"
#include "target.h"

#include <stdio.h>
#include <string.h>

/* A part of an open file, or of its mapping, as the transfer's source. The lease is the caller's.
 */
static void set_source(struct sconn *sc, int fd, const char *map, uint64_t off, uint64_t len,
		       struct lease *lease)
{
	struct xfer *x = &sc->c.xfer;

	x->src = map ? SOURCE_MAPPING : SOURCE_FILE;
	x->mem = map ? map + off : NULL;
	x->lease = lease;
	x->file_fd = fd;
	x->off = off;
	x->len = len;
}

/* Body bytes [off, off + len) of the entry, from memory, mapping or file. */
static void append_body(struct sconn *sc, struct file_entry *e, uint64_t off, uint64_t len)
{
	struct lease *lease = e->mem ? &e->mem->lease : &e->lease;

	if (!len)
		return;
	lease_get(lease);
	respond_lease(sc, lease);
	if (e->mem && e->mem->fd < 0)
		respond_memory(sc, e->mem->data + e->head_len + off, len);
	else if (e->mem)
		set_source(sc, e->mem->fd, NULL, e->head_len + off, len, lease);
	else
		set_source(sc, e->fd, e->map, off, len, lease);
}

/* The fields of the representation, for heads that are made for one response. */
static void entity_fields(const struct file_entry *e, uint64_t len, const char *extra, char *out,
			  size_t size)
{
	snprintf(out, size,
		 "Content-Type: %s\r\nContent-Length: %llu\r\nLast-Modified: %s\r\nETag: %s\r\n"
		 "Accept-Ranges: bytes\r\n%s",
		 e->type, (unsigned long long)len, e->last_modified, e->etag, extra);
}

static void answer_part(struct sconn *sc, const struct http_request *req, int status,
			struct file_entry *e, uint64_t off, uint64_t len, const char *extra)
{
	bool body = req->method != HTTP_HEAD;
	char fields[HEAD_BYTES / 2 + 128];

	entity_fields(e, len, extra, fields, sizeof(fields));
	if (respond_head(sc, req, status, fields) && body)
		append_body(sc, e, off, len);
	respond_end(sc, status, body ? len : 0);
}

/* The plain 200 of a persistent HTTP/1.1 connection has its head ready. */
static bool answer_preformatted(struct sconn *sc, const struct http_request *req,
				struct file_entry *e)
{
	struct file_cache *fc = sworker_of(sc->c.w)->files;
	bool body = req->method != HTTP_HEAD;
	struct lease *lease;
	const char *head;

	if (sc->close_after || req->minor == 0)
		return false;
	head = file_entry_head(fc, e, &lease);
	if (!head)
		return false;
	respond_lease(sc, lease);
	if (e->mem && e->mem->fd >= 0) {
		set_source(sc, e->mem->fd, NULL, 0, e->head_len + (body ? e->size : 0), lease);
	} else if (e->mem && body) {
		respond_memory(sc, head, e->head_len + e->size);
	} else {
		respond_memory(sc, head, e->head_len);
		if (body && e->size)
			set_source(sc, e->fd, e->map, 0, e->size, lease);
	}
	respond_end(sc, 200, body ? e->size : 0);
	return true;
}

static void answer_304(struct sconn *sc, const struct http_request *req, const struct file_entry *e)
{
	char fields[160];

	snprintf(fields, sizeof(fields), "Last-Modified: %s\r\nETag: %s\r\n", e->last_modified,
		 e->etag);
	respond_head(sc, req, 304, fields);
	respond_end(sc, 304, 0);
}

#define CONDITIONS                                                                          \
	(1u << FIELD_IF_MATCH | 1u << FIELD_IF_NONE_MATCH | 1u << FIELD_IF_MODIFIED_SINCE | \
	 1u << FIELD_IF_UNMODIFIED_SINCE)

static time_t date_field(const struct http_request *req, enum http_field f)
{
	return http_has(req, f) ? http_date_parse(span_at(req, req->field[f]), req->field[f].len)
				: -1;
}

static bool listed(const struct http_request *req, enum http_field f, const struct file_entry *e,
		   bool strong)
{
	return etag_listed(span_at(req, req->field[f]), req->field[f].len, e->etag, strong);
}

/* Preconditions in their order of precedence (RFC 9110 13.2.2): 0 to go on, 304 or 412. */
static int judge_conditions(const struct http_request *req, const struct file_entry *e)
{
	time_t date;

	if (http_has(req, FIELD_IF_MATCH)) {
		if (!listed(req, FIELD_IF_MATCH, e, true))
			return 412;
	} else {
		date = date_field(req, FIELD_IF_UNMODIFIED_SINCE);
		if (date != -1 && e->mtime.tv_sec > date)
			return 412;
	}
	if (http_has(req, FIELD_IF_NONE_MATCH))
		return listed(req, FIELD_IF_NONE_MATCH, e, false) ? 304 : 0;
	date = date_field(req, FIELD_IF_MODIFIED_SINCE);
	return date != -1 && e->mtime.tv_sec <= date ? 304 : 0;
}

/* If-Range: the range counts only if the validator is strong and ours (RFC 9110 13.1.5). */
static bool range_applies(const struct http_request *req, const struct file_entry *e)
{
	struct span v = req->field[FIELD_IF_RANGE];

	if (!http_has(req, FIELD_IF_RANGE))
		return true;
	if (v.len && (*span_at(req, v) == '"' || *span_at(req, v) == 'W'))
		return *span_at(req, v) == '"' &&
		       etag_listed(span_at(req, v), v.len, e->etag, true);
	return v.len == DATE_BYTES && !memcmp(span_at(req, v), e->last_modified, DATE_BYTES);
}

/* True when the Range field decided the response. */
static bool answer_range(struct sconn *sc, const struct http_request *req, struct file_entry *e)
{
	struct span v = req->field[FIELD_RANGE];
	uint64_t first, last;
	char extra[96];

	if (req->method != HTTP_GET || !range_applies(req, e))
		return false;
	switch (range_parse(span_at(req, v), v.len, e->size, &first, &last)) {
	case RANGE_ONE:
		snprintf(extra, sizeof(extra), "Content-Range: bytes %llu-%llu/%llu\r\n",
			 (unsigned long long)first, (unsigned long long)last,
			 (unsigned long long)e->size);
		answer_part(sc, req, 206, e, first, last - first + 1, extra);
		return true;
	case RANGE_UNSATISFIABLE:
		snprintf(extra, sizeof(extra), "Content-Range: bytes */%llu\r\n",
			 (unsigned long long)e->size);
		respond_error(sc, req, 416, extra);
		return true;
	default:
		return false;
	}
}

static void answer_entry(struct sconn *sc, const struct http_request *req, struct file_entry *e)
{
	int status = req->seen & CONDITIONS ? judge_conditions(req, e) : 0;

	if (status == 304)
		answer_304(sc, req, e);
	else if (status)
		respond_error(sc, req, status, NULL);
	else if (http_has(req, FIELD_RANGE) && answer_range(sc, req, e))
		return;
	else if (!answer_preformatted(sc, req, e))
		answer_part(sc, req, 200, e, 0, e->size, "");
}

/* A directory named without its slash: relative links inside it would go astray. */
static void answer_redirect(struct sconn *sc, const struct http_request *req, const char *path,
			    size_t len)
{
	const char *end = req->head + req->url.off + req->url.len;
	size_t query = path + len <= end && path >= req->head ? (size_t)(end - path) - len : 0;
	char extra[HEAD_BYTES / 2];

	if (len + query + 32 > sizeof(extra)) {
		respond_error(sc, req, 404, NULL);
		return;
	}
	/* One leading slash only: "//host" would be a reference to another host. */
	while (len > 1 && path[1] == '/') {
		path++;
		len--;
	}
	snprintf(extra, sizeof(extra), "Location: %.*s/%.*s\r\n", (int)len, path, (int)query,
		 path + len);
	respond_error(sc, req, 301, extra);
}

static void answer_path(struct sconn *sc, const struct http_request *req, const char *path,
			size_t len)
{
	struct sworker *sw = sworker_of(sc->c.w);
	struct file_entry *e = file_cache_find(sw->files, path, len);
	int status;

	if (e) {
		answer_entry(sc, req, e);
		return;
	}
	if (!target_decode(path, len, sw->path)) {
		respond_error(sc, req, 400, NULL);
		return;
	}
	status = file_cache_open(sw->files, path, len, sw->path, &e);
	if (!status)
		answer_entry(sc, req, e);
	else if (status == 301)
		answer_redirect(sc, req, path, len);
	else
		respond_error(sc, req, status, NULL);
}

static void answer(struct sconn *sc, const struct http_request *req)
{
	struct span expect = req->field[FIELD_EXPECT];
	const char *path;
	size_t len;

	if (req->method != HTTP_GET && req->method != HTTP_HEAD) {
		respond_error(sc, req, 405, "Allow: GET, HEAD\r\n");
		return;
	}
	if (http_has(req, FIELD_EXPECT) &&
	    (expect.len != 12 || strncasecmp(span_at(req, expect), "100-continue", 12))) {
		respond_error(sc, req, 417, NULL);
		return;
	}
	path = target_path(span_at(req, req->url), req->url.len, &len);
	if (path)
		answer_path(sc, req, path, len);
	else
		respond_error(sc, req, 400, NULL);
}

static int init(struct sworker *sw)
{
	sw->files = file_cache_create(sw->srv, &sw->w);
	return sw->files ? 0 : -ENOMEM;
}

static void fini(struct sworker *sw)
{
	if (sw->files)
		file_cache_destroy(sw->files);
}

const struct role role_file = {
	.name = "file",
	.needs = SOURCE_CONSTANT | SOURCE_MEMORY | SOURCE_MAPPING | SOURCE_FILE,
	.any_source = true,
	.worker_init = init,
	.worker_exit = fini,
	.answer = answer,
};
