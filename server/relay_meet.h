/* SPDX-License-Identifier: MIT */
/*
 * Inside of a meet. relay_meet.c has who comes and goes, relay_transfer.c the transfer,
 * relay_words.c what is said of it. All of it happens on the worker that is the name's home.
 */
#ifndef IOLAB_RELAY_MEET_H
#define IOLAB_RELAY_MEET_H

#include "relay.h"

#include <uthash.h>

/* How receivers know where the body ends. */
enum framing {
	FRAMING_LENGTH,
	FRAMING_CHUNKED,
	FRAMING_CLOSE, /* a receiver speaks HTTP/1.0: all get the same bytes, so all get this */
};

/* Parties of one name. Owned by its worker; the parties are not its own. */
struct meet {
	UT_hash_handle hh;
	char *name;
	struct progress seen;
	struct party *sender;
	uint16_t n, here; /* receivers wanted, and there */
	bool running;
	uint8_t framing;
	struct party **receivers; /* n, while waiting the first `here` are set */
	struct xfer_dst *dst;	  /* n, of the transfer; dst[i] is receivers[i] */
};

/* ------------------------------------------------------------------------------ relay_meet.c */

/* The name is free again. p is any party, for its worker. */
void meet_free(struct meet *m, const struct party *p);

/* Tells who watches what changed. p as above. */
void meet_show(struct meet *m, const struct party *p);

/* The sender says what is new; when there is nothing it parks, or the transfer begins. */
void meet_talk(struct party *p);

/* ------------------------------------------------------------------------------ relay_transfer.c
 */

/* All are there, and the sender knows. Sets its next step. */
void transfer_begin(struct meet *m);

/* Receivers that have not left. */
unsigned transfer_living(const struct meet *m);

/* Every receiver leaves the meet. Those that live are released, or cut so that it shows. */
void transfer_dismiss(struct meet *m, bool whole);

/* Ends the transfer, and tells the sender whose fault it is. The meet is freed. */
void transfer_fail_as_it_is(struct party *p);

/* ------------------------------------------------------------------------------ relay_words.c */

/* A piece of text for the sender's next transfer. False without memory: the connection then ends.
 */
bool relay_append(struct party *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes the sender's next transfer: text to its own socket. */
void relay_say(struct party *p, const char *text, bool last);

/* The last words; then the connection serves another request, or closes. */
void relay_bye(struct party *p, const char *text, bool keep);

/* Adds to text, of `size` bytes, at `at`; returns where it ends. What does not fit is left out. */
size_t relay_line(char *text, size_t size, size_t at, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* What the sender has not been told yet; empty when it knows everything. */
void relay_compose(struct party *p, char *text, size_t size);

/* The receivers' head, the same for all. False without memory: the connection then ends. */
bool relay_append_head(struct party *p);

#endif
