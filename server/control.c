// SPDX-License-Identifier: MIT
/*
 * The control socket: a UNIX stream socket that answers one line with one document. A thread of its
 * own, asleep between questions, and one more per client while it is connected.
 */
#include "server.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
	struct server *srv;
	int fd;
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
	cJSON_AddStringToObject(doc, "role", srv->cfg.role);
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
static bool answer(int fd, const struct server *srv, const char *line)
{
	static const char unknown[] =
		"{\"error\":\"unknown command: use counters or prometheus\"}\n";

	if (!strcmp(line, "counters"))
		return reply(fd, counters_document(srv), "\n");
	if (!strcmp(line, "prometheus"))
		return reply(fd, counters_prometheus(srv), "");
	if (!strncmp(line, "GET /metrics ", 13))
		return reply_http(fd, srv);
	return write_all(fd, unknown, sizeof(unknown) - 1);
}

static void serve_client(int fd, const struct server *srv)
{
	char buf[512];
	size_t have = 0;
	bool go_on = true;

	while (go_on && have < sizeof(buf) - 1) {
		ssize_t n = recv(fd, buf + have, sizeof(buf) - 1 - have, 0);
		char *eol;

		if (n <= 0)
			break;
		have += (size_t)n;
		buf[have] = '\0';
		while (go_on && (eol = strchr(buf, '\n'))) {
			*eol = '\0';
			if (eol > buf && eol[-1] == '\r')
				eol[-1] = '\0';
			go_on = answer(fd, srv, buf);
			have -= (size_t)(eol + 1 - buf);
			memmove(buf, eol + 1, have + 1);
		}
	}
	close(fd);
}

static void *client_main(void *arg)
{
	serve_client((int)(intptr_t)arg, control.srv);
	return NULL;
}

static void *control_main(void *ignored)
{
	pthread_attr_t attr;
	int fd;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	while ((fd = accept4(control.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == EINTR ||
	       errno == ECONNABORTED || errno == EMFILE) {
		pthread_t thread;

		if (fd < 0)
			usleep(10000);
		else if (pthread_create(&thread, &attr, client_main, (void *)(intptr_t)fd))
			close(fd);
	}
	pthread_attr_destroy(&attr);
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
	shutdown(control.fd, SHUT_RDWR); /* ends the accept */
	pthread_join(control.thread, NULL);
	close(control.fd);
	unlink(path);
}
