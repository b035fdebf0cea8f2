/* SPDX-License-Identifier: MIT */
/* Slices against servers that are wrong: each fault has its counter, and none is a request. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "clocks.h"
#include "fake.h"

#define SLICE_MS 20

/* What the servers below say to a first request before they close, and how they close. */
static const char *script;
static bool script_resets;
static bool script_stays;

static void serve_script(struct fake_conn *c)
{
	const struct linger abort_it = {.l_onoff = 1};

	if (!fake_take(c))
		return;
	fake_say(c, script);
	if (script_resets)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
	while (script_stays && fake_take(c))
		;
}

/* Plays a script and expects errors of one kind only. */
static void check_script(struct rig *r, const char *text, enum load_error error)
{
	script = text;
	rig_start(r, serve_script, 2, 1);
	rig_slice(r, SLICE_MS);
	if (!r->res.total.errors[error] || rig_errors(r) != r->res.total.errors[error])
		fail_msg("%s: not counted as %s only", text, load_error_names[error]);
	assert_int_equal(r->res.total.requests, 0);
	assert_int_equal(r->res.latency.nr, 0);
	rig_stop(r);
}

static int reset_script(void **state)
{
	script_resets = false;
	script_stays = false;
	return 0;
}

static void test_closed_in_a_response(void **state)
{
	static const char *const scripts[] = {
		"H",
		"HTTP/1.1 200 OK\r\nContent-Le",
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfifty bytes, or fewer",
		"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nfifty bytes, or fewer",
		"HTTP/1.1 100 Continue\r\n\r\n",
	};

	for (size_t i = 0; i < NR(scripts); i++) {
		struct rig r;
		check_script(&r, scripts[i], LOAD_ERR_SHORT);
	}
}

static void test_closed_without_answer(void **state)
{
	struct rig r;

	check_script(&r, "", LOAD_ERR_RESET);
}

static void test_reset(void **state)
{
	struct rig r;

	script_resets = true;
	check_script(&r, "", LOAD_ERR_RESET);
	/* What was sent before the RST may be lost or read; the request is lost either way. */
	script = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin";
	rig_start(&r, serve_script, 2, 1);
	rig_slice(&r, SLICE_MS);
	assert_true(r.res.total.errors[LOAD_ERR_RESET] > 0);
	assert_int_equal(rig_errors(&r), r.res.total.errors[LOAD_ERR_RESET]);
	assert_int_equal(r.res.total.requests, 0);
	rig_stop(&r);
}

static void test_bad_heads(void **state)
{
	static const char *const scripts[] = {
		"SSH-2.0-OpenSSH_9\r\n",
		"HTTP/1.1 200 OK\r\n\r\nno length",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
		"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n",
	};

	script_stays = true;
	for (size_t i = 0; i < NR(scripts); i++) {
		struct rig r;
		check_script(&r, scripts[i], LOAD_ERR_HEAD);
		assert_int_equal(r.res.total.non_2xx, 0);
	}
}

static void test_bad_head_of_an_error_response(void **state)
{
	struct rig r;

	script_stays = true;
	check_script(&r, "HTTP/1.1 503 Busy\r\n\r\ntry later", LOAD_ERR_HEAD);
	assert_int_equal(r.res.total.non_2xx, r.res.total.errors[LOAD_ERR_HEAD]);
}

static void test_surplus_with_the_response(void **state)
{
	static const char *const scripts[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!",
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\nx",
	};

	script_stays = true;
	for (size_t i = 0; i < NR(scripts); i++) {
		struct rig r;
		check_script(&r, scripts[i], LOAD_ERR_LONG);
	}
}

/* A large body with surplus: it stays in the socket, as only the body's length is discarded. */
static void serve_large_surplus(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(100000, &len);
	unsigned int nr;

	response = realloc(response, len + 3);
	memcpy(response + len, "abc", 3);
	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			fake_count(c, 100000);
			fake_send(c, response, len + 3);
		}
	}
	free(response);
}

static void test_surplus_behind_a_large_body(void **state)
{
	struct rig r;

	rig_start(&r, serve_large_surplus, 2, 1);
	rig_slice(&r, SLICE_MS);
	/* The response in front of the surplus was right; what follows it is what is reported. */
	assert_true(r.res.total.errors[LOAD_ERR_LONG] > 0);
	assert_int_equal(rig_errors(&r), r.res.total.errors[LOAD_ERR_LONG]);
	rig_stop(&r);
}

/* Answers late, so that the answer is the last one of the slice, with surplus behind it. */
static void serve_last_with_surplus(struct fake_conn *c)
{
	size_t len;
	char *response = fake_response(5000, &len);

	response = realloc(response, len + 3);
	memcpy(response + len, "abc", 3);
	while (fake_take(c)) {
		usleep(50000);
		fake_send(c, response, len + 3);
	}
	free(response);
}

static void test_surplus_behind_the_last_response(void **state)
{
	struct rig r;

	rig_start(&r, serve_last_with_surplus, 2, 1);
	rig_slice(&r, 1);
	/* More than 2 if this machine stalled for longer than the server, and asked again. */
	assert_true(r.res.total.errors[LOAD_ERR_LONG] >= 2);
	assert_int_equal(rig_errors(&r), r.res.total.errors[LOAD_ERR_LONG]);
	rig_stop(&r);
}

static void test_surplus_in_a_pipeline(void **state)
{
	struct rig r;

	rig_start(&r, serve_large_surplus, 2, 4);
	rig_slice(&r, SLICE_MS);
	assert_true(r.res.total.errors[LOAD_ERR_LONG] > 0);
	assert_int_equal(rig_errors(&r), r.res.total.errors[LOAD_ERR_LONG]);
	rig_stop(&r);
}

static const char *repeated;

static void serve_repeated(struct fake_conn *c)
{
	unsigned int nr;

	while ((nr = fake_take(c))) {
		for (; nr; nr--) {
			fake_count(c, 0);
			fake_say(c, repeated);
		}
	}
}

/* A well-formed response with another status costs the request, not the connection. */
static void check_status(const char *response, bool is_2xx, uint32_t pipeline)
{
	struct rig r;

	repeated = response;
	rig_start(&r, serve_repeated, 3, pipeline);
	rig_slice(&r, SLICE_MS);
	assert_int_equal(r.res.total.requests, 0);
	assert_true(r.fake.nr_answered > 0);
	assert_int_equal(r.res.total.errors[LOAD_ERR_STATUS], r.fake.nr_answered);
	assert_int_equal(rig_errors(&r), r.fake.nr_answered);
	assert_int_equal(r.res.total.non_2xx, is_2xx ? 0 : r.fake.nr_answered);
	assert_int_equal(r.fake.nr_accepted, 3);
	rig_stop(&r);
}

static void test_wrong_status(void **state)
{
	check_status("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", false, 1);
	check_status("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope", false, 5);
	check_status("HTTP/1.1 304 Not Modified\r\n\r\n", false, 1);
	check_status("HTTP/1.1 204 No Content\r\n\r\n", true, 1);
	check_status("HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx", true, 2);
}

/* The time-out ends what a server leaves unfinished; nothing else does. */
static void test_timeout(void **state)
{
	static const char *const scripts[] = {
		"",
		"HTTP/1.1 200 OK\r\nCont",
		"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin",
	};

	script_stays = true;
	for (size_t i = 0; i < NR(scripts); i++) {
		struct rig r;
		script = scripts[i];
		rig_start(&r, serve_script, 3, 2);
		r.cfg.timeout_ns = 50 * NS_PER_MS;
		rig_slice(&r, 1);
		assert_true(r.res.total.errors[LOAD_ERR_TIMEOUT] >= 3);
		assert_int_equal(rig_errors(&r), r.res.total.errors[LOAD_ERR_TIMEOUT]);
		assert_int_equal(r.res.total.requests, 0);
		assert_int_equal(load_connected(r.load), 0);
		rig_stop(&r);
	}
}

/* A request that times out within the window is replaced, on a new connection. */
static void test_timeout_in_the_window(void **state)
{
	struct rig r;

	script = "";
	script_stays = true;
	rig_start(&r, serve_script, 1, 1);
	r.cfg.timeout_ns = 10 * NS_PER_MS;
	rig_slice(&r, 200);
	assert_true(r.res.window.errors[LOAD_ERR_TIMEOUT] >= 1);
	assert_true(r.res.total.reconnects >= 1);
	rig_stop(&r);
}

/* An address of 127.0.0.1 that a socket of the test holds, and the list that names it alone. */
struct held {
	int fd;
	struct sockaddr_in addr;
	struct addrinfo only;
};

/* Binds `h` to a free port, where nobody else can listen then. The caller closes `h->fd`. */
static void hold_port(struct held *h)
{
	socklen_t len = sizeof(h->addr);

	h->addr = (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	h->fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_return_code(bind(h->fd, (struct sockaddr *)&h->addr, len), errno);
	assert_return_code(getsockname(h->fd, (struct sockaddr *)&h->addr, &len), errno);
	h->only = (struct addrinfo){
		.ai_family = AF_INET,
		.ai_addr = (struct sockaddr *)&h->addr,
		.ai_addrlen = len,
	};
}

/* Nothing listens. */
static void test_refused(void **state)
{
	struct held nobody;
	struct rig r;
	struct load *l;

	hold_port(&nobody);
	rig_start(&r, serve_script, 3, 1);
	r.cfg.addresses = &nobody.only;
	assert_int_equal(load_open(&r.cfg, &l), -ECONNREFUSED);
	/* A second address that answers makes the first one's refusal no error. */
	repeated = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	r.fake.serve = serve_repeated;
	nobody.only.ai_next = r.addresses;
	rig_slice(&r, SLICE_MS);
	rig_assert_clean(&r);
	close(nobody.fd);
	rig_stop(&r);
}

/* Nobody accepts, and the queue holds one connection: the kernel drops further SYNs. */
static void test_connect_timeout(void **state)
{
	struct held full;
	struct rig r;

	hold_port(&full);
	assert_return_code(listen(full.fd, 0), errno);
	rig_start(&r, serve_script, 3, 1);
	r.cfg.addresses = &full.only;
	r.cfg.timeout_ns = 50 * NS_PER_MS;
	rig_slice(&r, 1);
	assert_true(r.res.total.errors[LOAD_ERR_CONNECT] >= 2);
	assert_int_equal(r.res.total.requests, 0);
	close(full.fd);
	rig_stop(&r);
}

/* A server that goes away between slices: connect errors, no success, and no hang. */
static void test_server_gone(void **state)
{
	struct rig r;

	script = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
	rig_start(&r, serve_script, 2, 1);
	assert_int_equal(load_open(&r.cfg, &r.load), 0);
	shutdown(r.fake.listen_fd, SHUT_RDWR);
	pthread_join(r.fake.acceptor, NULL);
	load_slice(r.load, 0, SLICE_MS * NS_PER_MS, &r.res);
	assert_true(r.res.total.errors[LOAD_ERR_CONNECT] > 0);
	rig_slice(&r, SLICE_MS);
	assert_int_equal(r.res.total.requests, 0);
	assert_true(r.res.total.errors[LOAD_ERR_CONNECT] > 0);
	assert_int_equal(rig_errors(&r), r.res.total.errors[LOAD_ERR_CONNECT]);
	load_close(r.load);
	close(r.fake.listen_fd);
	freeaddrinfo(r.addresses);
	pthread_mutex_lock(&r.fake.lock);
	while (r.fake.nr_live)
		pthread_cond_wait(&r.fake.changed, &r.fake.lock);
	pthread_mutex_unlock(&r.fake.lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_closed_in_a_response, reset_script),
		cmocka_unit_test_setup(test_closed_without_answer, reset_script),
		cmocka_unit_test_setup(test_reset, reset_script),
		cmocka_unit_test_setup(test_bad_heads, reset_script),
		cmocka_unit_test_setup(test_bad_head_of_an_error_response, reset_script),
		cmocka_unit_test_setup(test_surplus_with_the_response, reset_script),
		cmocka_unit_test_setup(test_surplus_behind_a_large_body, reset_script),
		cmocka_unit_test_setup(test_surplus_behind_the_last_response, reset_script),
		cmocka_unit_test_setup(test_surplus_in_a_pipeline, reset_script),
		cmocka_unit_test_setup(test_wrong_status, reset_script),
		cmocka_unit_test_setup(test_timeout, reset_script),
		cmocka_unit_test_setup(test_timeout_in_the_window, reset_script),
		cmocka_unit_test_setup(test_refused, reset_script),
		cmocka_unit_test_setup(test_connect_timeout, reset_script),
		cmocka_unit_test_setup(test_server_gone, reset_script),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
