/* SPDX-License-Identifier: MIT */
/* Responses: appended to the connection's transfer, one per request, in order. */
#ifndef IOLAB_RESPONSE_H
#define IOLAB_RESPONSE_H

#include "server.h"

/* The most a head made for one response takes. */
#define HEAD_BYTES 768

/* The most the text of an error takes. */
#define TEXT_BYTES 64

/* Whether the transfer and its arena can hold one more response. */
bool response_fits(const struct sconn *sc);

/*
 * A small text response. req may be NULL (no request was understood); extra is "Field: value\r\n"
 * or NULL.
 */
void respond_error(struct sconn *sc, const struct http_request *req, int status, const char *extra);

/* The same with words of its own, at most TEXT_MAX of them in bytes; NULL or "": the status's. */
#define TEXT_MAX 120
void respond_text(struct sconn *sc, const struct http_request *req, int status, const char *extra,
		  const char *words);

/*
 * Appends a head made from status, entity fields (each line with its CRLF; may be empty) and the
 * fields every response has. Returns false when out of memory; the transfer then ends the
 * connection.
 */
bool respond_head(struct sconn *sc, const struct http_request *req, int status, const char *fields);

/* Appends memory that outlives the transfer, or is kept by a lease given with respond_lease(). */
void respond_memory(struct sconn *sc, const char *base, size_t len);

/* Hands one reference of the lease over to the connection, until the transfer ends. */
void respond_lease(struct sconn *sc, struct lease *lease);

/* Space in the connection's arena, or NULL. */
char *respond_scratch(struct sconn *sc, size_t bytes);

/* Counts the response; each one exactly once, after its parts were appended. */
void respond_end(struct sconn *sc, int status, uint64_t body_bytes);

/* ---- between conn.c and worker.c */
struct sconn *worker_conn_get(struct sworker *sw);
void worker_conn_put(struct sworker *sw, struct sconn *sc);
void conn_expire(struct sconn *sc);
void conn_drain(struct sconn *sc, bool now);

#endif
