// SPDX-License-Identifier: MIT
/*
 * iolab-zerocopy-check: whether what this kernel sends by MSG_ZEROCOPY and by SEND_ZC leaves an
 * interface without a copy. By itself on loopback; over a real interface with a second host, guest
 * or network namespace that runs `iolab-zerocopy-check --sink`.
 */
#include "check.h"

#include <argp.h>
#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct config {
	struct plan plan;
	const char *connect, *sink;
	bool json;
};

static const struct argp_option arguments[] = {
	{"connect", 'c', "HOST:PORT", 0, "Send to this sink instead of one of its own on loopback.",
	 0},
	{"interface", 'i', "NAME", 0, "Send by this interface only (SO_BINDTODEVICE).", 0},
	{"sink", 's', "HOST:PORT", 0, "Be the receiving end: discard, until a signal ends it.", 0},
	{"sends", 'n', "NUMBER", 0, "Sends of each method (2000).", 0},
	{"bytes", 'b', "NUMBER", 0, "Bytes of a send (16384).", 0},
	{"timeout", 't', "MS", 0, "Give up after so long without a notification (10000).", 0},
	{"json", 'j', NULL, 0, "Print JSON.", 0},
	{0}};

static uint64_t number(struct argp_state *state, const char *what, const char *text, uint64_t max)
{
	char *rest;
	unsigned long long value = strtoull(text, &rest, 10);

	if (!*text || *rest || *text == '-' || !value || value > max)
		argp_error(state, "--%s: '%s' is not allowed; allowed: 1 to %llu", what, text,
			   (unsigned long long)max);
	return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct config *cfg = state->input;

	switch (key) {
	case 'c':
		cfg->connect = arg;
		break;
	case 'i':
		cfg->plan.interface = arg;
		break;
	case 's':
		cfg->sink = arg;
		break;
	case 'n':
		cfg->plan.nr_sends = number(state, "sends", arg, 1000000000);
		break;
	case 'b':
		cfg->plan.send_bytes = (size_t)number(state, "bytes", arg, 1 << 24);
		break;
	case 't':
		cfg->plan.timeout_ms = (int)number(state, "timeout", arg, 3600000);
		break;
	case 'j':
		cfg->json = true;
		break;
	case ARGP_KEY_END:
		if (cfg->sink && (cfg->connect || cfg->plan.interface))
			argp_error(state, "--sink receives: leave --connect and --interface out");
		if (cfg->plan.interface && !cfg->connect)
			argp_error(state,
				   "--interface needs --connect HOST:PORT, the sink behind it: "
				   "addresses of this host are reached over loopback");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

/* HOST:PORT or [HOST]:PORT. False with a message. */
static bool resolve(const char *text, struct sockaddr_storage *addr, socklen_t *len)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
	const char *colon = strrchr(text, ':');
	char host[256];
	int res;

	if (!colon || (size_t)(colon - text) >= sizeof(host)) {
		fprintf(stderr, "iolab-zerocopy-check: '%s' is not HOST:PORT\n", text);
		return false;
	}
	if (*text == '[' && colon > text + 1 && colon[-1] == ']')
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text - 2), text + 1);
	else
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	res = getaddrinfo(host, colon + 1, &hints, &list);
	if (res) {
		fprintf(stderr, "iolab-zerocopy-check: %s: %s\n", text, gai_strerror(res));
		return false;
	}
	memcpy(addr, list->ai_addr, list->ai_addrlen);
	*len = list->ai_addrlen;
	freeaddrinfo(list);
	return true;
}

static int complain_of(const char *what, int res)
{
	fprintf(stderr, "iolab-zerocopy-check: %s: %s\n", what, strerror(-res));
	return 1;
}

static int be_sink(const struct config *cfg)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int fd;

	if (!resolve(cfg->sink, &addr, &len))
		return 2;
	fd = sink_listen((struct sockaddr *)&addr, len);
	if (fd < 0)
		return complain_of(cfg->sink, fd);
	len = sizeof(addr);
	getsockname(fd, (struct sockaddr *)&addr, &len);
	printf("listening on port %d\n",
	       ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
						: ((struct sockaddr_in *)&addr)->sin_port));
	fflush(stdout);
	return complain_of("accept", sink_run(fd));
}

/* A sink of its own on loopback. 0 or -errno. */
static int own_sink(struct plan *p)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = sink_listen((struct sockaddr *)&addr, sizeof(addr));

	if (fd < 0)
		return fd;
	p->to_len = sizeof(addr);
	if (getsockname(fd, (struct sockaddr *)&p->to, &p->to_len))
		return -errno;
	return sink_start(fd);
}

/* ---------------------------------------------------------------- the answer */

/*
 * Without scatter-gather in the device, TCP still hands over pages (it relies on segmentation in
 * software, sk_setup_caps in net/core/sock.c), and they are copied when packets are cut for the
 * device (skb_segment in net/core/skbuff.c): behind the back of the notifications, which report no
 * copy.
 */
static bool copied_unseen(const struct tally *t, const struct device *d)
{
	return t->copied < t->notified && !d->loopback && d->scatter_gather == 0;
}

static const char *verdict_of(const struct tally *t, const struct device *d)
{
	if (t->failed_at)
		return t->error == -EOPNOTSUPP ? "unsupported" : "failed";
	if (copied_unseen(t, d))
		return "copied unseen";
	if (!t->copied)
		return "not copied";
	return t->copied == t->notified ? "copied" : "partly copied";
}

/* Why, in one sentence that the caller may keep until the next call. */
static const char *reason_of(const struct tally *t, const struct device *d)
{
	static char text[256];
	const char *copies = device_copies(d);

	if (t->failed_at) {
		snprintf(text, sizeof(text), "%s: %s", t->failed_at, strerror(-t->error));
		return text;
	}
	if (copied_unseen(t, d))
		return "scatter-gather is off: packets are cut for the device by copying, of which "
		       "the notifications report some or nothing (ethtool -K)";
	if (!t->copied)
		return "the kernel's notifications report no copy";
	return copies ? copies
		      : "the kernel's notifications report copies; nothing that is known of the "
			"interface explains them";
}

static cJSON *tally_json(const char *method, const struct tally *t, const struct device *d)
{
	cJSON *obj = cJSON_CreateObject();

	cJSON_AddStringToObject(obj, "method", method);
	cJSON_AddStringToObject(obj, "verdict", verdict_of(t, d));
	cJSON_AddNumberToObject(obj, "sent", (double)t->sent);
	cJSON_AddNumberToObject(obj, "notified", (double)t->notified);
	cJSON_AddNumberToObject(obj, "copied", (double)t->copied);
	cJSON_AddNumberToObject(obj, "bytes", (double)t->bytes);
	cJSON_AddStringToObject(obj, "reason", reason_of(t, d));
	return obj;
}

static void add_known(cJSON *obj, const char *name, int value, bool flag)
{
	if (value < 0)
		cJSON_AddNullToObject(obj, name);
	else if (flag)
		cJSON_AddBoolToObject(obj, name, value);
	else
		cJSON_AddNumberToObject(obj, name, value);
}

static void print_json(const struct device *d, const struct tally *msg, const struct tally *ring)
{
	cJSON *doc = cJSON_CreateObject(), *methods;
	char *text;

	cJSON_AddNumberToObject(doc, "schema_version", 1);
	cJSON_AddStringToObject(doc, "interface", d->name);
	cJSON_AddStringToObject(doc, "driver", d->driver);
	cJSON_AddBoolToObject(doc, "loopback", d->loopback);
	add_known(doc, "scatter_gather", d->scatter_gather, true);
	add_known(doc, "packet_sockets", d->packet_sockets, false);
	methods = cJSON_AddArrayToObject(doc, "methods");
	cJSON_AddItemToArray(methods, tally_json("MSG_ZEROCOPY", msg, d));
	cJSON_AddItemToArray(methods, tally_json("SEND_ZC", ring, d));
	text = cJSON_Print(doc);
	puts(text);
	free(text);
	cJSON_Delete(doc);
}

static void print_line(const char *method, const struct tally *t, const struct device *d)
{
	printf("%-13s %9llu %9llu %9llu  %-13s %s\n", method, (unsigned long long)t->sent,
	       (unsigned long long)t->notified, (unsigned long long)t->copied, verdict_of(t, d),
	       reason_of(t, d));
}

static void print_table(const struct device *d, const struct tally *msg, const struct tally *ring)
{
	printf("interface %s, driver %s, scatter-gather %s\n", *d->name ? d->name : "unknown",
	       *d->driver ? d->driver : "unknown",
	       d->scatter_gather < 0 ? "unknown"
	       : d->scatter_gather   ? "on"
				     : "off");
	printf("%-13s %9s %9s %9s  %-13s %s\n", "method", "sent", "notified", "copied", "verdict",
	       "reason");
	print_line("MSG_ZEROCOPY", msg, d);
	print_line("SEND_ZC", ring, d);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = arguments,
		.parser = parse,
		.doc = "Sends over TCP by MSG_ZEROCOPY and by io_uring's SEND_ZC, and says from "
		       "the "
		       "kernel's notifications what it copied. Exit status: 0 both methods ran, 1 "
		       "one did not, 2 usage."};
	struct config cfg = {.plan = {.nr_sends = 2000, .send_bytes = 16384, .timeout_ms = 10000}};
	struct tally msg, ring;
	struct device d;
	int res;

	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, &cfg);
	if (cfg.sink)
		return be_sink(&cfg);
	if (cfg.connect && !resolve(cfg.connect, &cfg.plan.to, &cfg.plan.to_len))
		return 2;
	res = cfg.connect ? 0 : own_sink(&cfg.plan);
	if (res)
		return complain_of("a sink on loopback", res);
	device_of(&cfg.plan, &d);
	send_msg_zerocopy(&cfg.plan, &msg);
	send_ring_zc(&cfg.plan, &ring);
	(cfg.json ? print_json : print_table)(&d, &msg, &ring);
	return msg.failed_at || ring.failed_at;
}
