// SPDX-License-Identifier: MIT
/*
 * The two methods. Each send names the same memory, which nobody writes to: so nothing depends on
 * when the kernel is finished with it, and a send may be made before the last one is notified.
 */
#include "check.h"
#include "uring_compat.h"
#include "zc_notification.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INFLIGHT_MAX 64 /* sends that may wait for their notification */

/* Of both methods. */
struct sender {
	const struct plan *p;
	struct tally *t;
	int fd;
	char *memory; /* p->send_bytes of it, page-aligned */
};

static int fail(struct sender *s, const char *what, int res)
{
	s->t->failed_at = what;
	s->t->error = res;
	return res;
}

static int connect_to(struct sender *s)
{
	const char *name = s->p->interface;
	int fd = socket(s->p->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	s->fd = fd;
	if (fd < 0)
		return fail(s, "socket", -errno);
	if (name && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)))
		return fail(s, "binding to the interface (SO_BINDTODEVICE)", -errno);
	if (connect(fd, (const struct sockaddr *)&s->p->to, s->p->to_len))
		return fail(s, "connect", -errno);
	return 0;
}

static int begin(struct sender *s, const struct plan *p, struct tally *t)
{
	*s = (struct sender){.p = p, .t = t, .fd = -1};
	memset(t, 0, sizeof(*t));
	s->memory = mmap(NULL, p->send_bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s->memory == MAP_FAILED)
		return fail(s, "mmap", -errno);
	return connect_to(s);
}

static void end(struct sender *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->memory != MAP_FAILED)
		munmap(s->memory, s->p->send_bytes);
}

/* ---------------------------------------------------------------- MSG_ZEROCOPY */

/* One message of the error queue. 1, 0 when it is empty, or -errno. */
static int read_notification(struct sender *s)
{
	struct zc_notification n;
	int res = zc_notification_read(s->fd, &n);
	uint32_t nr;

	if (res <= 0)
		return res;
	nr = n.hi - n.lo + 1;
	s->t->notified += nr;
	s->t->copied += n.copied ? nr : 0;
	return 1;
}

/* Waits until a notification has come. */
static int await_notification(struct sender *s)
{
	struct pollfd pfd = {.fd = s->fd}; /* POLLERR is always reported */
	int res;

	while (!(res = read_notification(s))) {
		int nr = poll(&pfd, 1, s->p->timeout_ms);

		if (nr < 0 && errno != EINTR)
			return fail(s, "poll", -errno);
		if (!nr)
			return fail(s, "waiting for a notification", -ETIMEDOUT);
	}
	return res < 0 ? fail(s, "reading the error queue", res) : 0;
}

static int send_one(struct sender *s)
{
	ssize_t n = send(s->fd, s->memory, s->p->send_bytes, MSG_ZEROCOPY | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOBUFS && s->t->sent > s->t->notified)
		return await_notification(s);
	if (n < 0)
		return fail(s, "send with MSG_ZEROCOPY", -errno);
	s->t->sent++;
	s->t->bytes += (uint64_t)n;
	return 0;
}

void send_msg_zerocopy(const struct plan *p, struct tally *t)
{
	struct timeval patience = {.tv_sec = p->timeout_ms / 1000,
				   .tv_usec = p->timeout_ms % 1000 * 1000};
	struct sender s;
	int one = 1;
	int res = begin(&s, p, t);

	if (!res && setsockopt(s.fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		res = fail(&s, "SO_ZEROCOPY", -EOPNOTSUPP);
	if (!res && setsockopt(s.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)))
		res = fail(&s, "SO_SNDTIMEO", -errno);
	while (!res && t->sent < p->nr_sends)
		res = t->sent - t->notified < INFLIGHT_MAX ? send_one(&s) : await_notification(&s);
	while (!res && t->notified < t->sent)
		res = await_notification(&s);
	end(&s);
}

/* ---------------------------------------------------------------- SEND_ZC */

static int prepare_one(struct sender *s, struct io_uring *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(uring);

	if (!sqe)
		return fail(s, "io_uring_get_sqe", -EBUSY);
	io_uring_prep_send_zc(sqe, s->fd, s->memory, s->p->send_bytes, MSG_NOSIGNAL | MSG_WAITALL,
			      IORING_SEND_ZC_REPORT_USAGE);
	return 0;
}

/* A result, or a notification of one that was accepted. */
static int take(struct sender *s, const struct io_uring_cqe *cqe, bool *accepted)
{
	if (cqe->flags & IORING_CQE_F_NOTIF) {
		s->t->notified += *accepted;
		s->t->copied += *accepted && (uint32_t)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED;
		return 0;
	}
	*accepted = cqe->res > 0;
	if (cqe->res < 0)
		return fail(s, "SEND_ZC", cqe->res == -EINVAL ? -EOPNOTSUPP : cqe->res);
	s->t->sent++;
	s->t->bytes += (uint64_t)cqe->res;
	return 0;
}

/* One send, its result and its notification: there is one in flight, so they need no names. */
static int send_and_wait(struct sender *s, struct io_uring *uring)
{
	struct __kernel_timespec ts = {.tv_sec = s->p->timeout_ms / 1000,
				       .tv_nsec = s->p->timeout_ms % 1000 * 1000000ll};
	struct io_uring_cqe *cqe;
	bool accepted = false, more = true;
	int res = prepare_one(s, uring), submitted;

	if (res)
		return res;
	submitted = io_uring_submit(uring);
	if (submitted < 0)
		return fail(s, "io_uring_submit", submitted);
	while (!res && more) {
		res = io_uring_wait_cqe_timeout(uring, &cqe, &ts);
		if (res == -EINTR) {
			res = 0;
			continue;
		}
		if (res)
			return fail(s, "waiting for a notification",
				    res == -ETIME ? -ETIMEDOUT : res);
		more = cqe->flags & IORING_CQE_F_MORE;
		res = take(s, cqe, &accepted);
		io_uring_cqe_seen(uring, cqe);
	}
	return res;
}

void send_ring_zc(const struct plan *p, struct tally *t)
{
	struct io_uring uring;
	struct sender s;
	int res = begin(&s, p, t);
	int made = io_uring_queue_init(8, &uring, 0);

	if (!res && made)
		res = fail(&s, "io_uring_setup", made == -ENOSYS ? -EOPNOTSUPP : made);
	while (!res && t->sent < p->nr_sends)
		res = send_and_wait(&s, &uring);
	if (!made)
		io_uring_queue_exit(&uring);
	end(&s);
}
