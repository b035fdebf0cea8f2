/* SPDX-License-Identifier: MIT */
/*
 * Role relay, inside: who wants to send or receive under which name (parties), and what becomes of
 * those who meet. role_relay.c turns requests into parties; relay_meet.c brings them together, and
 * relay_transfer.c runs the transfer. Everything here happens on the worker that is the name's
 * home.
 */
#ifndef IOLAB_RELAY_H
#define IOLAB_RELAY_H

#include "multipart.h"
#include "response.h"

#define RELAY_RECEIVERS_MAX 256
#define RELAY_FIELDS_MAX    3072 /* bytes of the sender's fields that go to the receivers */

struct meet;
struct note;

/* Where a sender stands. Its step follows from it. */
enum stage {
	STAGE_TALK,  /* says who is there; between the words it is parked */
	STAGE_BODY,  /* the whole body is one transfer */
	STAGE_FRAME, /* reads the framing of a chunk, or what multipart wraps around the first part
		      */
	STAGE_CHUNK, /* a chunk, or a piece of the first part, is on its way */
	STAGE_LAST,  /* the end of the receivers' chunked response is on its way */
	STAGE_BYE,   /* its last words are on their way */
};

/* One side of a transfer; owns its connection (sc->party) until party_free(). */
struct party {
	struct sconn *sc;
	struct meet *meet; /* NULL: not there yet, or over */
	char *name;	   /* the path */
	uint32_t name_len;
	uint16_t n; /* receivers that it wants */
	bool sends;
	bool old;  /* HTTP/1.0 */
	bool keep; /* its connection may serve another request */
	/* Of a sender: */
	uint8_t stage;
	bool expects;	    /* 100-continue, not said yet */
	bool greeted;	    /* the head of its response is out */
	bool remind;	    /* say again that it waits */
	bool announced;	    /* it was told that sending begins */
	bool framed;	    /* a chunk went to the receivers, whose end of line is still due */
	uint16_t told;	    /* of how many receivers */
	uint64_t length;    /* UINT64_MAX: unknown */
	uint64_t piece;	    /* bytes of the chunk under way */
	char *fields;	    /* for the receivers' head */
	char *held;	    /* a piece of the first part, for its transfer */
	struct note *notes; /* memory of the transfer under way */
	struct multipart *multipart;
};

/* Frees what relay_append() made for the transfer that is over. */
void notes_free(struct party *p);

/* All but its connection. */
void party_free(struct party *p);

/* Brings the party to its name, on the name's home worker; sets the connection's step. */
void meet_join(struct party *p);

/* The sender's part of struct role. */
size_t meet_feed(struct party *p, const char *buf, size_t len);
void meet_done(struct party *p, int res);

/* The party's connection goes: frees its slot, or ends the transfer. The party is freed. */
void meet_leave(struct party *p);

/* The peer hung up while parked. */
void meet_hup(struct party *p, enum hangup how);

/* No partner came in time, or the server drains: the party is told, in `why`. */
void meet_give_up(struct party *p, int status, const char *why);

/* Answers a party with an error instead, and closes its connection afterwards. Frees the party. */
void party_refuse(struct party *p, int status, const char *text);

/* The worker's names; 0 or -ENOMEM. */
int meets_init(struct sworker *sw);
void meets_exit(struct sworker *sw);

/*
 * Appends the line "name: value" for the receivers to the `size` bytes at out, from *at on, which
 * moves behind it; no NUL ends it. In a Content-Type every text/html becomes text/plain; a folded
 * value becomes one line. False when it does not fit: then *at and what is behind it are of no use.
 */
bool relay_field(char *out, size_t size, size_t *at, const char *name, const char *value,
		 size_t len);

#endif
