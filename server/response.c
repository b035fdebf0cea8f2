// SPDX-License-Identifier: MIT
#include "response.h"

#include <stdio.h>
#include <string.h>

bool response_fits(const struct sconn *sc)
{
	return sc->c.xfer.iov_nr + 2 <= XFER_IOV && sc->nr_leases < MERGE_MAX &&
	       (!sc->arena || sc->arena->used + HEAD_BYTES + TEXT_BYTES <= sizeof(sc->arena->data));
}

char *respond_scratch(struct sconn *sc, size_t bytes)
{
	char *p;

	if (!sc->arena)
		sc->arena = arena_get(sworker_of(sc->c.w));
	if (!sc->arena || sc->arena->used + bytes > sizeof(sc->arena->data))
		return NULL;
	p = sc->arena->data + sc->arena->used;
	sc->arena->used += bytes;
	return p;
}

void respond_memory(struct sconn *sc, const char *base, size_t len)
{
	struct xfer *x = &sc->c.xfer;

	if (!len)
		return;
	x->iov[x->iov_nr++] = (struct iovec){.iov_base = (char *)(uintptr_t)base, .iov_len = len};
}

void respond_lease(struct sconn *sc, struct lease *lease)
{
	sc->leases[sc->nr_leases++] = lease;
}

void respond_end(struct sconn *sc, int status, uint64_t body_bytes)
{
	struct counters *ctr = sc->c.w->ctr;

	sc->nr_responses++;
	sc->body_bytes += body_bytes;
	if (status < 300)
		count_one(ctr, responses_2xx);
	else if (status < 400)
		count_one(ctr, responses_3xx);
	else if (status < 500)
		count_one(ctr, responses_4xx);
	else
		count_one(ctr, responses_5xx);
}

/* Persistence is said only where it is not what the version implies (RFC 9112 9.3). */
static const char *connection_field(const struct sconn *sc, const struct http_request *req)
{
	if (sc->close_after)
		return "Connection: close\r\n";
	return req && req->minor == 0 ? "Connection: keep-alive\r\n" : "";
}

bool respond_head(struct sconn *sc, const struct http_request *req, int status, const char *fields)
{
	char *head = respond_scratch(sc, HEAD_BYTES);
	int n;

	if (!head) {
		sc->close_after = true;
		return false;
	}
	n = snprintf(head, HEAD_BYTES, "HTTP/1.1 %d %s\r\nServer: iolab\r\nDate: %s\r\n%s%s\r\n",
		     status, http_reason(status), sworker_of(sc->c.w)->date, fields,
		     connection_field(sc, req));
	respond_memory(sc, head, (size_t)n);
	return true;
}

void respond_error(struct sconn *sc, const struct http_request *req, int status, const char *extra)
{
	respond_text(sc, req, status, extra, NULL);
}

void respond_text(struct sconn *sc, const struct http_request *req, int status, const char *extra,
		  const char *words)
{
	bool head_only = req && req->method == HTTP_HEAD;
	char fields[HEAD_BYTES / 2 + 64], text[TEXT_MAX + 8];
	int len = snprintf(text, sizeof(text), "%d %.*s\n", status, TEXT_MAX,
			   words && *words ? words : http_reason(status));
	char *body = head_only ? NULL : respond_scratch(sc, (size_t)len);

	snprintf(fields, sizeof(fields),
		 "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%s", len,
		 extra ? extra : "");
	if (respond_head(sc, req, status, fields) && body) {
		memcpy(body, text, (size_t)len);
		respond_memory(sc, body, (size_t)len);
	}
	respond_end(sc, status, body ? (uint64_t)len : 0);
}
