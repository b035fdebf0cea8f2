/* SPDX-License-Identifier: MIT */
/*
 * Types the rooms of the skeleton share: the server, a worker, a connection, and what one room
 * offers to another. Engines see none of this; they see engine.h.
 */
#ifndef IOLAB_SERVER_H
#define IOLAB_SERVER_H

#include "../engines/engine.h"
#include "handicap.h"
#include "http.h"

#include <pthread.h>
#include <semaphore.h>

#define SERVER_NAME    "iolab-server"
#define SERVER_VERSION "0.1.0"

struct file_cache;
struct sconn;
struct sworker;

/*
 * What the server does with bytes. `needs` are the enum source bits an engine must move, all of
 * them, or one of them if any_source. An HTTP role answers parsed requests; it may take a
 * connection over (sc->owned), and then decides each of its steps: the calls below are engine.h's,
 * for owned connections. All but `name`, `needs` and answer (HTTP) or opened may be NULL where not
 * called.
 */
struct role {
	const char *name;
	unsigned needs;
	bool any_source;
	bool relays; /* sockets become sources: see struct worker */
	bool bodies; /* uploads are answered at the end of their head; the role takes the body */
	int (*worker_init)(struct sworker *sw); /* 0 or -errno */
	void (*worker_exit)(struct sworker *sw);
	void (*tick)(struct sworker *sw);
	void (*answer)(struct sconn *sc, const struct http_request *req);
	void (*opened)(struct sconn *sc); /* accepted; for roles that are not HTTP */
	size_t (*feed)(struct sconn *sc, const char *buf, size_t len);
	void (*done)(struct sconn *sc, int res);
	void (*attached)(struct sconn *sc);
	void (*hup)(struct sconn *sc, enum hangup how);
	void (*closing)(struct sconn *sc);
	void (*expired)(struct sconn *sc);
	void (*drain)(struct sconn *sc);
};

extern const struct role role_file, role_relay, role_forward;
extern const struct role *const roles[]; /* ends with NULL */

/* Whether the engine can move what the role needs. */
bool role_fits(const struct role *role, const struct engine *engine);

/* The command line, parsed and checked. */
struct server_config {
	const struct engine *engine;
	int64_t opt[ENGINE_OPTS_MAX];
	struct body_policy bodies;
	const struct role *role;
	const char *root;
	const char *upstream;
	const char *listen;
	const char *control;
	const char *cpus;
	int nr_workers; /* 0: one per core */
	int merge;	/* pipelined responses merged into one transfer, 1..MERGE_MAX */
	int backlog;
	int header_timeout_ms;
	int idle_timeout_ms;
	int send_timeout_ms;
	int linger_timeout_ms;
	int drain_timeout_ms;
	int wait_timeout_ms; /* of relay parties for their partner; 0: none */
	int cache_files;
	int cache_valid_ms;
	int handicap_percent; /* role file only; see handicap.h */
};

struct server {
	struct server_config cfg;
	int root_fd;
	int nr_workers;
	struct sworker **workers;
	uint64_t start_ns;
	_Atomic unsigned peak_round; /* raised by whoever wants peaks of counters to begin anew */
	struct handicap handicap;
	sem_t initialised; /* posted by each worker once its result of starting is known */
	sem_t decided;	   /* posted for each worker once all_up is known; it waits for that */
	bool all_up;	   /* every worker has a thread and its engine is up: they may run */
	struct addrinfo *upstream;
	/* Both for the end of draining: nobody may leave while a connection may come to him. */
	_Atomic int nr_draining; /* workers that hand over no more connections */
	_Atomic int nr_moving;	 /* connections between the decision to MOVE and their arrival */
	/* An engine ended by itself, with an error: the others drain without waiting for it. */
	_Atomic bool worker_lost;
};

/* Where a connection stands, for its deadline. */
enum phase {
	PHASE_IDLE,
	PHASE_REQUEST,
	PHASE_SEND,
	PHASE_LINGER,
	PHASE_CONNECT, /* to the upstream */
	PHASE_WAIT,    /* for a partner */
	PHASE_RELAY,   /* joined to others: idle peers are their own business */
};

/* Memory for heads made for one response; returned to the worker when the transfer ends. */
#define ARENA_BYTES 4096
struct arena {
	struct arena *next;
	size_t used;
	char data[ARENA_BYTES - sizeof(struct arena *) - sizeof(size_t)];
};

/* A connection as the skeleton sees it. The engine's part comes first, its priv behind. */
struct sconn {
	struct conn c;
	struct sconn *prev, *next;  /* all connections of the worker */
	struct sconn *next_pending; /* in the worker_next() queue */
	struct http_parser http;
	struct arena *arena;
	uint64_t body_bytes; /* of the responses in the transfer */
	uint8_t phase;	     /* enum phase */
	uint8_t nr_responses;
	uint8_t nr_leases;
	bool close_after;
	bool owned;		 /* the role decides its steps */
	void *party;		 /* the role's, while owned */
	struct sconn *next_mail; /* in a mailbox */
	struct lease *leases[MERGE_MAX];
};

/*
 * One transfer as an observer sees it, in the list of its worker. Changed and read under the
 * worker's progress_lock; `source` has the bytes, atomically. total UINT64_MAX: not known.
 */
struct progress {
	struct progress *prev, *next;
	const char *name; /* NULL: it is called after the address of `client` */
	const struct conn *client;
	const struct conn *source; /* NULL: no sender yet */
	uint64_t total;
	uint64_t created_ns, started_ns; /* started 0: waits */
	uint64_t rate_bytes_per_s;	 /* over the last second or so */
	uint64_t seen_bytes, seen_ns;
	uint16_t receivers, receivers_here;
};

#define DATE_BYTES 29 /* an IMF-fixdate, RFC 9110 5.6.7 */

struct sworker {
	struct worker w;
	struct server *srv;
	struct sconn conns; /* list head */
	struct sconn *pending, **pending_tail;
	struct sconn *free_conns;
	void *slabs; /* chain of what free_conns was cut from */
	struct arena *free_arenas;
	struct file_cache *files;
	uint64_t next_sweep_ns;
	unsigned peak_round; /* the server's, when the peaks here began */
	uint64_t sweep_every_ns;
	uint64_t drain_until_ns;	 /* 0: not draining */
	_Atomic(struct sconn *) mailbox; /* from other workers, the last one first */
	bool drain_seen;
	void *role;		       /* the role's own */
	pthread_mutex_t progress_lock; /* for who watches; never held while bytes move */
	struct progress progress;      /* list head */
	uint64_t next_rates_ns;
	uint64_t handicap_unspent_ns;
	int64_t date_s;
	uint32_t date_gen; /* changes when `date` does */
	char date[DATE_BYTES + 1];
	unsigned nr_conns;
	/* Not on the stack: an engine with a thread per connection would pay it a thousand times.
	 */
	char path[HTTP_URL_MAX + 2];
	int result; /* of the thread */
	pthread_t thread;
};

static inline struct sworker *sworker_of(const struct worker *w)
{
	return (struct sworker *)(uintptr_t)w;
}

static inline struct sconn *sconn_of(const struct conn *c)
{
	return (struct sconn *)(uintptr_t)c;
}

/* worker.c: a worker's memory on its NUMA node. NULL with errno set. */
struct sworker *worker_create(struct server *srv, int index, int cpu, int node);
void worker_destroy(struct sworker *sw);
void worker_drain(struct sworker *sw); /* any thread */
struct arena *arena_get(struct sworker *sw);

/*
 * threads.c: starts every worker and waits until each engine is up. 0, or -errno after saying which
 * worker could not start; then none of them runs its engine. *nr counts the threads, for
 * workers_stop() in either case.
 */
int workers_start(struct server *srv, int *nr);
/* Lets the workers finish what is in flight and joins them. 0, or what one of them ended with. */
int workers_stop(struct server *srv, int nr);

/* listen.c: a listening socket with SO_REUSEPORT, or -errno; port 0 picks one, see listen_name. */
int listen_open(const char *hostport, int backlog, const struct server_config *cfg);
int listen_probe(const char *hostport); /* as listen_open, refused where another server listens */
int listen_name(int fd, char *buf, size_t size);
/* The address to forward to; freed by freeaddrinfo(). 0 or -errno. */
struct addrinfo;
int upstream_resolve(const char *hostport, struct addrinfo **out);

/* conn.c, for roles: how an owned connection goes on. */
void conn_end(struct sconn *sc, enum close_how how); /* sets the step */
void conn_post(struct sconn *sc);	  /* the step was changed from outside: tell the engine */
struct sconn *conn_new(struct worker *w); /* an outgoing one, fd -1; NULL: out of memory */
void conn_release(struct sconn *sc, bool keep); /* no longer owned: next request, or close */
/* Asks for a MOVE to worker `to`. False when this worker is draining: nobody moves any more. */
bool conn_move(struct sconn *sc, int to);

/* progress.c */
void progress_init(struct sworker *sw);
void progress_add(struct sworker *sw, struct progress *p);
void progress_remove(struct sworker *sw, struct progress *p);
void progress_rates(struct sworker *sw, uint64_t now_ns); /* from the worker's tick */
char *progress_json(const struct server *srv); /* malloc'd; any thread. NULL: out of memory */
static inline void progress_lock(struct sworker *sw)
{
	pthread_mutex_lock(&sw->progress_lock);
}
static inline void progress_unlock(struct sworker *sw)
{
	pthread_mutex_unlock(&sw->progress_lock);
}

/* control.c: a thread that serves the control socket. 0 or -errno. */
int control_start(struct server *srv, const char *path);
void control_stop(const char *path);

/* counters.c */
void counters_add(struct counters *to, const struct counters *from);
struct cJSON *counters_json(const struct counters *ctr);
char *counters_prometheus(const struct server *srv); /* malloc'd, NULL when out of memory */

/* describe.c: JSON of everything this binary can do. 0, or 1 when it could not be printed. */
int describe(void);

/* options.c: "name,opt=value,..." into cfg; on failure prints why and returns -EINVAL. */
int engine_spec_parse(struct server_config *cfg, char *spec);
struct cJSON *engine_options_json(const struct engine *engine, const int64_t *opt);
int64_t parse_size(const char *s); /* bytes with k, m, g; -1 when malformed */

/* registry: generated by CMake from its list of engines. */
extern const struct engine *const engines[];
extern const unsigned nr_engines;

#endif
