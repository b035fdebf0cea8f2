// SPDX-License-Identifier: MIT
/*
 * The control socket: a UNIX stream socket that answers one line with one document. A thread of its
 * own, asleep between questions.
 */
#include "server.h"

#include <cjson/cJSON.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	NR_CLIENTS = 16
};

struct client {
	int fd; /* -1: free */
	size_t have;
	char buf[512];
};

static struct {
	struct server *srv;
	int fd;
	_Atomic bool stop;
	pthread_t thread;
} control = {.fd = -1};

static char *counters_document(const struct server *srv)
{
	struct counters sum = {0};
	cJSON *doc = cJSON_CreateObject(), *workers = cJSON_CreateArray();
	char *text;

	cJSON_AddNumberToObject(doc, "schema_version", 1);
	cJSON_AddNumberToObject(doc, "pid", getpid());
	cJSON_AddStringToObject(doc, "engine", srv->cfg.engine->name);
	cJSON_AddItemToObject(doc, "options", engine_options_json(srv->cfg.engine, srv->cfg.opt));
	cJSON_AddStringToObject(doc, "role", srv->cfg.role->name);
	cJSON_AddNumberToObject(doc, "merge", srv->cfg.merge);
	cJSON_AddNumberToObject(doc, "uptime_ns", (double)(clock_now_ns() - srv->start_ns));
	cJSON_AddBoolToObject(doc, "draining", atomic_load(&srv->workers[0]->w.draining));
	for (int i = 0; i < srv->nr_workers; i++) {
		const struct worker *w = &srv->workers[i]->w;
		cJSON *one = cJSON_CreateObject();

		cJSON_AddNumberToObject(one, "cpu", w->cpu);
		cJSON_AddNumberToObject(one, "node", w->node);
		cJSON_AddItemToObject(one, "counters", counters_json(w->ctr));
		cJSON_AddItemToArray(workers, one);
		counters_add(&sum, w->ctr);
	}
	cJSON_AddItemToObject(doc, "workers", workers);
	cJSON_AddItemToObject(doc, "total", counters_json(&sum));
	text = cJSON_PrintUnformatted(doc);
	cJSON_Delete(doc);
	return text;
}

static bool write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return true;
}

static bool reply(int fd, char *text, const char *end)
{
	bool ok = text && write_all(fd, text, strlen(text)) && write_all(fd, end, strlen(end));

	free(text);
	return ok;
}

/* A scraper speaks HTTP; it gets one response and the end of the connection. */
static bool reply_http(int fd, const struct server *srv)
{
	static const char head[] = "HTTP/1.0 200 OK\r\n"
				   "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\r\n";

	if (write_all(fd, head, sizeof(head) - 1))
		reply(fd, counters_prometheus(srv), "");
	return false;
}

/* False ends the connection. */
static bool answer(int fd, struct server *srv, const char *line)
{
	static const char unknown[] =
		"{\"error\":\"unknown command: use counters, new-peaks, status or prometheus\"}\n";

	if (!strcmp(line, "counters"))
		return reply(fd, counters_document(srv), "\n");
	if (!strcmp(line, "new-peaks")) {
		atomic_fetch_add(&srv->peak_round, 1);
		return write_all(fd, "{}\n", 3);
	}
	if (!strcmp(line, "status"))
		return reply(fd, progress_json(srv), "\n");
	if (!strcmp(line, "prometheus"))
		return reply(fd, counters_prometheus(srv), "");
	if (!strncmp(line, "GET /metrics ", 13))
		return reply_http(fd, srv);
	return write_all(fd, unknown, sizeof(unknown) - 1);
}

static void drop(struct client *cl)
{
	close(cl->fd);
	cl->fd = -1;
}

/* Whatever lines have come are answered; a line longer than the buffer is not one of ours. */
static void serve_client(struct client *cl)
{
	ssize_t n = recv(cl->fd, cl->buf + cl->have, sizeof(cl->buf) - 1 - cl->have, MSG_DONTWAIT);
	bool go_on = n > 0;
	char *eol;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	cl->have += n > 0 ? (size_t)n : 0;
	cl->buf[cl->have] = '\0';
	while (go_on && (eol = strchr(cl->buf, '\n'))) {
		*eol = '\0';
		if (eol > cl->buf && eol[-1] == '\r')
			eol[-1] = '\0';
		go_on = answer(cl->fd, control.srv, cl->buf);
		cl->have -= (size_t)(eol + 1 - cl->buf);
		memmove(cl->buf, eol + 1, cl->have + 1);
	}
	if (!go_on || cl->have == sizeof(cl->buf) - 1)
		drop(cl);
}

/* A client that does not read its answer must not keep the others waiting for ever. */
static void accept_client(struct client *clients)
{
	struct timeval patience = {.tv_sec = 2};
	int fd = accept4(control.fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	for (int i = 0; i < NR_CLIENTS; i++) {
		if (clients[i].fd < 0) {
			clients[i] = (struct client){.fd = fd};
			return;
		}
	}
	close(fd);
}

static void *control_main(void *ignored)
{
	static struct client clients[NR_CLIENTS];
	struct pollfd fds[NR_CLIENTS + 1];

	for (int i = 0; i < NR_CLIENTS; i++)
		clients[i].fd = -1;
	while (!atomic_load(&control.stop)) {
		fds[NR_CLIENTS] = (struct pollfd){.fd = control.fd, .events = POLLIN};
		for (int i = 0; i < NR_CLIENTS; i++) /* poll(2) passes over negative ones */
			fds[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
		if (poll(fds, NR_CLIENTS + 1, -1) < 0 && errno != EINTR)
			break;
		for (int i = 0; i < NR_CLIENTS; i++)
			if (clients[i].fd >= 0 && fds[i].revents)
				serve_client(&clients[i]);
		if (fds[NR_CLIENTS].revents & POLLIN)
			accept_client(clients);
	}
	for (int i = 0; i < NR_CLIENTS; i++)
		if (clients[i].fd >= 0)
			drop(&clients[i]);
	return NULL;
}

int control_start(struct server *srv, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int res = 0;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strcpy(addr.sun_path, path);
	control.srv = srv;
	control.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (control.fd < 0)
		return -errno;
	unlink(path); /* of a server that was killed */
	if (bind(control.fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(control.fd, 16))
		res = -errno;
	else
		res = -pthread_create(&control.thread, NULL, control_main, NULL);
	if (res) {
		close(control.fd);
		control.fd = -1;
	}
	return res;
}

void control_stop(const char *path)
{
	if (control.fd < 0)
		return;
	atomic_store(&control.stop, true);
	shutdown(control.fd, SHUT_RDWR); /* wakes the poll */
	pthread_join(control.thread, NULL);
	close(control.fd);
	unlink(path);
}
