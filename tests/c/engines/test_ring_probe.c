// SPDX-License-Identifier: MIT
/*
 * What probes say of calls that fail. The calls are those of liburing and the C library, replaced
 * when this program is linked (ld(1), --wrap): one of them, the n-th time, fails as the test says.
 */
#include "test.h"

#include "ring.h"
#include "ring_zc.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TEST_COMPLAIN

extern const struct engine engine_msg_zerocopy;

enum call {
	NONE,
	SETUP,
	BUF_RING,
	FILES,
	BUFFERS,
	REGISTER, /* what liburing has no name for: NAPI */
	SUBMIT,
	SOCKET,
	SETSOCKOPT,
};

static struct {
	enum call call;
	int nr; /* the calls before the one that fails */
	int err;
} fails;

/* 0, or -errno for this call. */
static int outcome(enum call call)
{
	return fails.call == call && fails.nr-- == 0 ? -fails.err : 0;
}

#define WRAPPED(call, type, name, params, args)                    \
	type __real_##name params;                                 \
	type __wrap_##name params;                                 \
	type __wrap_##name params                                  \
	{                                                          \
		int res = outcome(call);                           \
                                                                   \
		return res ? (type)res : (type)__real_##name args; \
	}

WRAPPED(SETUP, int, io_uring_queue_init_params,
	(unsigned nr, struct io_uring *u, struct io_uring_params *p), (nr, u, p))
WRAPPED(BUF_RING, int, io_uring_register_buf_ring,
	(struct io_uring * u, struct io_uring_buf_reg *reg, unsigned flags), (u, reg, flags))
WRAPPED(FILES, int, io_uring_register_files_sparse, (struct io_uring * u, unsigned nr), (u, nr))
WRAPPED(BUFFERS, int, io_uring_register_buffers_sparse, (struct io_uring * u, unsigned nr), (u, nr))
WRAPPED(SUBMIT, int, io_uring_submit_and_wait, (struct io_uring * u, unsigned nr), (u, nr))

/* Those of the C library say it by errno. */
#define WRAPPED_LIBC(call, type, name, params, args) \
	type __real_##name params;                   \
	type __wrap_##name params;                   \
	type __wrap_##name params                    \
	{                                            \
		int res = outcome(call);             \
                                                     \
		if (!res)                            \
			return __real_##name args;   \
		errno = -res;                        \
		return -1;                           \
	}

WRAPPED_LIBC(REGISTER, long, syscall, (long nr, long a, long b, void *c, long d), (nr, a, b, c, d))
WRAPPED_LIBC(SETSOCKOPT, int, setsockopt,
	     (int fd, int level, int name, const void *value, socklen_t len),
	     (fd, level, name, value, len))
WRAPPED_LIBC(SOCKET, int, socket, (int family, int type, int proto), (family, type, proto))

static const struct ring_config plain = {.entries = 8, .sqpoll_cpu = -1, .defer = true};

struct refusal {
	enum call call;
	int nr, err;
	struct ring_config cfg;
	const char *says;
};

#define WITH(...)                                           \
	{                                                   \
		.entries = 8, .sqpoll_cpu = -1, __VA_ARGS__ \
	}

static const struct refusal lacking[] = {
	{SETUP, 0, EINVAL, WITH(.defer = true), "needs Linux 6.0"},
	{SETUP, 1, EINVAL, WITH(.defer = true), "needs Linux 6.1"},
	{SETUP, 1, EINVAL, WITH(.coop = true), "needs Linux 5.19: IORING_SETUP_COOP_TASKRUN"},
	{SETUP, 1, EINVAL, WITH(.sqpoll = true), "needs Linux 5.11"},
	{BUF_RING, 0, EINVAL, WITH(.defer = true), "needs Linux 5.19: a ring of provided"},
	{FILES, 0, EINVAL, WITH(.fixed_files = true), "needs Linux 5.19: a sparse table of r"},
	{BUFFERS, 0, EINVAL, WITH(.fixed_buffers = true), "needs Linux 5.19: a sparse table of r"},
	{REGISTER, 0, EINVAL, WITH(.napi_usec = 50), "needs Linux 6.9"},
};

static const struct refusal hindered[] = {
	{SETUP, 0, ENOSYS, WITH(.defer = true), "CONFIG_IO_URING"},
	{SETUP, 0, EPERM, WITH(.defer = true), "kernel.io_uring_disabled"},
	{SETUP, 0, EMFILE, WITH(.defer = true), "ulimit -n"},
	{SETUP, 0, ENOMEM, WITH(.defer = true), "ulimit -l"},
	{SETUP, 1, ENOMEM, WITH(.defer = true), "ulimit -l"},
	{SETUP, 2, ENOMEM, WITH(.defer = true), "ulimit -l"},
	{SETUP, 1, EPERM, WITH(.sqpoll = true), "security modules"},
	{SETUP, 2, EINVAL, WITH(.sqpoll = true), "sqpoll_cpu: no such CPU"},
	{BUF_RING, 0, ENOMEM, WITH(.defer = true), "ulimit -l"},
	{FILES, 0, EMFILE, WITH(.fixed_files = true), "ulimit -n"},
	{BUFFERS, 0, ENOMEM, WITH(.fixed_buffers = true), "ulimit -l"},
	{REGISTER, 0, EOPNOTSUPP, WITH(.napi_usec = 50), "CONFIG_NET_RX_BUSY_POLL"},
	{SETUP, 0, EIO, WITH(.defer = true), "Input/output error"},
};

#define NR(table) (sizeof(table) / sizeof(*(table)))

static void says(const struct refusal *r, char reason[REASON_MAX])
{
	fails.call = r->call;
	fails.nr = r->nr;
	fails.err = r->err;
	assert_int_equal(ring_config_probe(&r->cfg, reason), -r->err);
	fails.call = NONE;
	if (!strstr(reason, r->says))
		fail_msg("%s is not in: %s", r->says, reason);
}

static void what_the_kernel_lacks_is_named_with_its_version(void **state)
{
	char reason[REASON_MAX];

	for (size_t i = 0; i < NR(lacking); i++)
		says(&lacking[i], reason);
}

static void what_is_amiss_here_is_not_blamed_on_the_kernel(void **state)
{
	char reason[REASON_MAX];

	for (size_t i = 0; i < NR(hindered); i++) {
		says(&hindered[i], reason);
		assert_null(strstr(reason, "needs Linux"));
	}
}

static void zero_copy_is_judged_by_the_errno_of_its_send(void **state)
{
	static const struct {
		enum call call;
		int err;
		const char *says;
	} cases[] = {
		{SUBMIT, EINVAL, "needs Linux 6.2"},
		{SUBMIT, EOPNOTSUPP, "TCP sockets of this kernel"},
		{SUBMIT, ENOMEM, "ulimit -l"},
		{SOCKET, EMFILE, "ulimit -n"},
	};
	char reason[REASON_MAX];

	assert_int_equal(ring_zc_probe(reason), 0);
	for (size_t i = 0; i < NR(cases); i++) {
		fails.call = cases[i].call;
		fails.nr = 0;
		fails.err = cases[i].err;
		assert_true(ring_zc_probe(reason) < 0);
		fails.call = NONE;
		if (!strstr(reason, cases[i].says))
			fail_msg("%s is not in: %s", cases[i].says, reason);
	}
}

static void only_a_refused_option_is_the_kernel_of_msg_zerocopy(void **state)
{
	static const struct {
		enum call call;
		int err;
		const char *says;
	} cases[] = {
		{SETSOCKOPT, ENOPROTOOPT, "needs Linux 4.14: SO_ZEROCOPY"},
		{SOCKET, EMFILE, "a TCP socket cannot be opened (Too many open files): raise"},
		{SOCKET, EAFNOSUPPORT, "a TCP socket cannot be opened"},
	};
	char reason[REASON_MAX];

	assert_int_equal(engine_msg_zerocopy.probe(NULL, reason), 0);
	for (size_t i = 0; i < NR(cases); i++) {
		fails.call = cases[i].call;
		fails.nr = 0;
		fails.err = cases[i].err;
		assert_int_equal(engine_msg_zerocopy.probe(NULL, reason), -cases[i].err);
		fails.call = NONE;
		if (strncmp(reason, cases[i].says, strlen(cases[i].says)))
			fail_msg("%s does not begin with: %s", reason, cases[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_kernel_lacks_is_named_with_its_version),
		cmocka_unit_test(what_is_amiss_here_is_not_blamed_on_the_kernel),
		cmocka_unit_test(zero_copy_is_judged_by_the_errno_of_its_send),
		cmocka_unit_test(only_a_refused_option_is_the_kernel_of_msg_zerocopy),
	};
	char reason[REASON_MAX];

	if (ring_config_probe(&plain, reason) || ring_zc_probe(reason)) {
		printf("skipped: %s\n", reason);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
