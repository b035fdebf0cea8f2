// SPDX-License-Identifier: MIT
#include "ring.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SHORT_NS       10000000ull /* waits shorter than this are too rare for an alarm */
#define CQ_ENTRIES_MAX 65536u	   /* IORING_MAX_CQ_ENTRIES, io_uring/io_uring.h */
#define CPUS_MAX       8192	   /* NR_CPUS of the largest kernel (MAXSMP, arch/x86/Kconfig) */

static unsigned setup_flags(const struct ring_config *cfg)
{
	return IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
	       (cfg->defer ? IORING_SETUP_DEFER_TASKRUN : 0) |
	       (cfg->coop ? IORING_SETUP_COOP_TASKRUN : 0) |
	       (cfg->sqpoll ? IORING_SETUP_SQPOLL : 0) |
	       (cfg->sqpoll && cfg->sqpoll_cpu >= 0 ? IORING_SETUP_SQ_AFF : 0);
}

/* CQSIZE: a multishot operation completes more often than it is submitted. */
static int create(struct ring *r)
{
	const struct ring_config *cfg = &r->cfg;
	unsigned cq = 4 * cfg->entries;
	struct io_uring_params p = {
		.flags = setup_flags(cfg),
		.cq_entries = cq < CQ_ENTRIES_MAX ? cq : CQ_ENTRIES_MAX,
		.sq_thread_idle = cfg->sqpoll_idle_ms,
		.sq_thread_cpu = cfg->sqpoll_cpu < 0 ? 0 : (unsigned)cfg->sqpoll_cpu,
	};
	int res = io_uring_queue_init_params(cfg->entries, &r->uring, &p);

	r->features = p.features;
	if (res)
		r->uring.ring_fd = -1;
	return res;
}

static size_t buf_ring_bytes(const struct ring *r)
{
	return r->nr_buffers * sizeof(struct io_uring_buf);
}

static int add_buffers(struct ring *r)
{
	struct io_uring_buf_reg reg = {.ring_entries = r->nr_buffers, .bgid = RING_BGID};
	int res;

	r->br = mmap(NULL, buf_ring_bytes(r), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	if (r->br == MAP_FAILED) {
		r->br = NULL;
		return -ENOMEM;
	}
	r->buffers = malloc((size_t)r->nr_buffers * RING_BUFFER_BYTES);
	if (!r->buffers)
		return -ENOMEM;
	reg.ring_addr = (uintptr_t)r->br;
	res = io_uring_register_buf_ring(&r->uring, &reg, 0);
	if (res)
		return res;
	io_uring_buf_ring_init(r->br);
	for (unsigned i = 0; i < r->nr_buffers; i++)
		ring_recycle(r, i);
	ring_recycle_flush(r);
	return 0;
}

/* A slot for every descriptor the process may have, up to a bound: the table takes memory. */
static int add_slots(struct ring *r)
{
	struct rlimit lim;
	int res;

	if (!r->cfg.fixed_files)
		return 0;
	if (getrlimit(RLIMIT_NOFILE, &lim))
		return -errno;
	r->nr_files = lim.rlim_cur < RING_FILES_MAX ? (unsigned)lim.rlim_cur : RING_FILES_MAX;
	res = io_uring_register_files_sparse(&r->uring, r->nr_files);
	return res < 0 ? res : 0;
}

static int add_buffer_table(struct ring *r)
{
	return r->cfg.fixed_buffers
		       ? io_uring_register_buffers_sparse(&r->uring, RING_MEMORY_CHUNKS)
		       : 0;
}

static int add_napi(struct ring *r)
{
	struct uring_napi napi = {.busy_poll_to = r->cfg.napi_usec, .prefer_busy_poll = 1};

	if (!r->cfg.napi_usec)
		return 0;
	return syscall(__NR_io_uring_register, r->uring.ring_fd, URING_REGISTER_NAPI, &napi, 1)
		       ? -errno
		       : 0;
}

/*
 * Threads of io-wq are given the CPUs of the process's cpuset (io_wq_create, io_uring/io-wq.c), the
 * clients' and other workers' among them; what their maker was bound to limits that only since
 * Linux 6.2 (user_cpus_ptr, kernel/sched/core.c). Linux 5.14.
 */
static int bind_threads(struct ring *r)
{
	unsigned long mask[CPUS_MAX / (8 * sizeof(unsigned long))];
	cpu_set_t *set = (cpu_set_t *)mask;

	if (sched_getaffinity(0, sizeof(mask), set))
		return -errno;
	return io_uring_register_iowq_aff(&r->uring, sizeof(mask), set);
}

int ring_init(struct ring *r, const struct ring_config *cfg, unsigned nr_buffers,
	      struct counters *ctr)
{
	int res;

	r->cfg = *cfg;
	r->ctr = ctr;
	r->nr_buffers = nr_buffers;
	res = create(r);
	if (!res)
		res = add_buffers(r);
	if (!res)
		res = add_slots(r);
	if (!res)
		res = add_buffer_table(r);
	if (!res)
		res = add_napi(r);
	if (!res)
		res = bind_threads(r);
	/* Saves looking the descriptor up in every call; not vital (Linux 5.18). */
	if (!res)
		io_uring_register_ring_fd(&r->uring);
	return res;
}

void ring_exit(struct ring *r)
{
	if (r->cfg.entries && r->uring.ring_fd >= 0)
		io_uring_queue_exit(&r->uring);
	if (r->br)
		munmap(r->br, buf_ring_bytes(r));
	free(r->buffers);
}

void ring_submit(struct ring *r)
{
	io_uring_submit(&r->uring);
	count_one(r->ctr, sys_enter);
}

/* Submits until nr entries are free. With sqpoll that is for the kernel's thread to do. */
static void make_space(struct ring *r, unsigned nr)
{
	while (io_uring_sq_space_left(&r->uring) < nr) {
		ring_submit(r);
		if (r->cfg.sqpoll)
			io_uring_sqring_wait(&r->uring);
	}
}

void ring_reserve(struct ring *r, unsigned nr)
{
	make_space(r, nr);
}

struct io_uring_sqe *ring_sqe(struct ring *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);

	if (!sqe) {
		make_space(r, 1);
		sqe = io_uring_get_sqe(&r->uring);
	}
	count_one(r->ctr, sqes);
	return sqe;
}

static bool overflown(const struct ring *r)
{
	return IO_URING_READ_ONCE(*r->uring.sq.kflags) & IORING_SQ_CQ_OVERFLOW;
}

bool ring_settled(const struct ring *r)
{
	return !io_uring_sq_ready(&r->uring) && !overflown(r);
}

/* Whether waiting for nr will be a system call: with sqpoll it need not be. */
static bool will_enter(struct ring *r, unsigned nr)
{
	unsigned flags = IO_URING_READ_ONCE(*r->uring.sq.kflags);

	return io_uring_cq_ready(&r->uring) < nr ||
	       (!r->cfg.sqpoll && io_uring_sq_ready(&r->uring)) ||
	       flags & (IORING_SQ_NEED_WAKEUP | IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

static struct __kernel_timespec timespec_of(uint64_t ns)
{
	return (struct __kernel_timespec){.tv_sec = (int64_t)(ns / 1000000000u),
					  .tv_nsec = (int64_t)(ns % 1000000000u)};
}

/* Sees to it that a completion comes when until_ns is reached, or earlier. */
static void set_alarm(struct ring *r, uint64_t now_ns, uint64_t until_ns)
{
	struct io_uring_sqe *sqe;

	if (r->alarm_ns > now_ns && r->alarm_ns <= until_ns)
		return;
	r->alarm_ns = until_ns;
	r->alarm = timespec_of(until_ns);
	sqe = ring_sqe(r);
	io_uring_prep_timeout(sqe, &r->alarm, 0, IORING_TIMEOUT_ABS);
	io_uring_sqe_set_data64(sqe, RING_IGNORE);
}

/* For nr completions, with a timer of this wait's own. As io_uring_submit_and_wait_timeout(3). */
static int wait_shortly(struct ring *r, unsigned nr, uint64_t ns)
{
	struct __kernel_timespec ts = timespec_of(ns);
	struct io_uring_cqe *cqe;

	count_add(r->ctr, sys_enter, will_enter(r, nr));
	return io_uring_submit_and_wait_timeout(&r->uring, &cqe, nr, &ts, NULL);
}

/* With sqpoll, and a completion at hand, that is no system call. */
static int wait_for_one(struct ring *r)
{
	count_add(r->ctr, sys_enter, will_enter(r, 1));
	return io_uring_cq_ready(&r->uring) ? io_uring_submit(&r->uring)
					    : io_uring_submit_and_wait(&r->uring, 1);
}

int ring_wait(struct ring *r, uint64_t now_ns, uint64_t timeout_ns)
{
	uint64_t batch_ns = r->cfg.batch_wait_usec * 1000ull;
	int res;

	if (r->busy && r->cfg.batch > 1) {
		res = wait_shortly(r, r->cfg.batch, batch_ns < timeout_ns ? batch_ns : timeout_ns);
	} else if (timeout_ns < SHORT_NS) {
		res = wait_shortly(r, 1, timeout_ns);
	} else {
		set_alarm(r, now_ns, now_ns + timeout_ns);
		res = wait_for_one(r);
	}
	r->busy = io_uring_cq_ready(&r->uring);
	count_add(r->ctr, cq_overflows, overflown(r));
	return res < 0 && res != -ETIME && res != -EINTR && res != -EBUSY && res != -EAGAIN ? res
											    : 0;
}

int ring_limit_threads(struct ring *r, unsigned nr)
{
	unsigned limits[2] = {0, nr}; /* those for files, which stay as they are; all others */

	return io_uring_register_iowq_max_workers(&r->uring, limits);
}

/* -1 empties a slot. Failing shows in what uses the slot: EBADF. */
static void update_slot(struct ring *r, const int *fd, unsigned slot)
{
	struct io_uring_sqe *sqe = ring_sqe(r);

	io_uring_prep_files_update(sqe, (int *)(uintptr_t)fd, 1, (int)slot);
	sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	io_uring_sqe_set_data64(sqe, RING_IGNORE);
}

void ring_register_socket(struct ring *r, const int *fd)
{
	update_slot(r, fd, (unsigned)*fd);
}

void ring_unregister_socket(struct ring *r, int fd)
{
	static const int none = -1;

	update_slot(r, &none, (unsigned)fd);
}

void ring_recycle(struct ring *r, unsigned bid)
{
	r->held[r->last_added].after = (uint16_t)bid;
	r->last_added = (uint16_t)bid;
	io_uring_buf_ring_add(r->br, ring_buffer(r, bid), RING_BUFFER_BYTES, (unsigned short)bid,
			      io_uring_buf_ring_mask(r->nr_buffers), (int)r->nr_recycled);
	r->nr_recycled++;
}

void ring_recycle_flush(struct ring *r)
{
	if (!r->nr_recycled)
		return;
	io_uring_buf_ring_advance(r->br, (int)r->nr_recycled);
	r->nr_free += r->nr_recycled;
	r->nr_recycled = 0;
}

/* ---------------------------------------------------------------- probing */

/* What a ring may be set up with, from the oldest on; each is tried with those before it. */
static const struct {
	size_t wanted; /* offset of a bool in struct ring_config */
	const char *need;
} setups[] = {
	{offsetof(struct ring_config, coop), "needs Linux 5.19: IORING_SETUP_COOP_TASKRUN"},
	{offsetof(struct ring_config, defer), "needs Linux 6.1: IORING_SETUP_DEFER_TASKRUN"},
	{offsetof(struct ring_config, sqpoll), "needs Linux 5.11: IORING_SETUP_SQPOLL"},
};

/* Why a call failed: only EINVAL means that the kernel does not know what was asked for. */
static const char *cause(int res, const char *need)
{
	switch (-res) {
	case EINVAL:
		return need;
	case ENOSYS:
		return "this kernel is built without io_uring (CONFIG_IO_URING)";
	case EPERM:
	case EACCES:
		return "io_uring is switched off: see sysctl kernel.io_uring_disabled, seccomp and "
		       "security modules";
	case EMFILE:
	case ENFILE:
		return "no descriptor is left for a ring: raise the limit of open files (ulimit "
		       "-n)";
	case ENOMEM:
		return "no memory for a ring: raise the limit of locked memory (ulimit -l), or "
		       "lower ring_entries";
	default:
		return "a ring cannot be set up";
	}
}

static int say(int res, char reason[REASON_MAX], const char *what)
{
	snprintf(reason, REASON_MAX, "%s (%s)", what, strerror(-res));
	return res;
}

int ring_refuse(int res, char reason[REASON_MAX], const char *need)
{
	return say(res, reason, cause(res, need));
}

/* A ring of 8 entries with cfg's flags, at once closed. */
static int try_setup(const struct ring_config *cfg)
{
	struct ring r = {.cfg = *cfg};
	int res;

	r.cfg.entries = 8;
	res = create(&r);
	if (!res)
		io_uring_queue_exit(&r.uring);
	return res;
}

static int probe_setup(const struct ring_config *cfg, char reason[REASON_MAX])
{
	struct ring_config one = {.sqpoll_cpu = -1, .sqpoll_idle_ms = 1};
	int res = try_setup(&one);

	if (res)
		return ring_refuse(res, reason, "needs Linux 6.0: io_uring with SINGLE_ISSUER");
	for (size_t i = 0; i < sizeof(setups) / sizeof(*setups); i++) {
		bool wanted = *(const bool *)((const char *)cfg + setups[i].wanted);

		*(bool *)((char *)&one + setups[i].wanted) = wanted;
		res = wanted ? try_setup(&one) : 0;
		if (res)
			return ring_refuse(res, reason, setups[i].need);
	}
	res = try_setup(cfg);
	return res ? ring_refuse(
			     res, reason,
			     "sqpoll_cpu: no such CPU, or none of this process's cpuset; -1 lets "
			     "the "
			     "scheduler choose")
		   : 0;
}

/* What is registered with a ring that can be set up. */
static int probe_ring(struct ring *r, char reason[REASON_MAX])
{
	int res = create(r);

	if (res)
		return ring_refuse(res, reason, "ring_entries: the kernel takes fewer");
	res = add_buffers(r);
	if (res)
		return ring_refuse(res, reason,
				   "needs Linux 5.19: a ring of provided buffers is refused");
	res = r->cfg.fixed_files ? io_uring_register_files_sparse(&r->uring, 8) : 0;
	if (res < 0)
		return ring_refuse(res, reason,
				   "needs Linux 5.19: a sparse table of registered files");
	res = add_buffer_table(r);
	if (res)
		return ring_refuse(res, reason,
				   "needs Linux 5.19: a sparse table of registered buffers");
	res = add_napi(r);
	if (res == -EOPNOTSUPP) /* io_uring/napi.h */
		return say(res, reason,
			   "napi: this kernel is built without CONFIG_NET_RX_BUSY_POLL");
	if (res)
		return ring_refuse(res, reason, "needs Linux 6.9: IORING_REGISTER_NAPI");
	if (r->cfg.bundle && !(r->features & URING_FEAT_RECVSEND_BUNDLE))
		return say(-EOPNOTSUPP, reason, "needs Linux 6.10: IORING_FEAT_RECVSEND_BUNDLE");
	return 0;
}

int ring_config_probe(const struct ring_config *cfg, char reason[REASON_MAX])
{
	struct counters ignored = {0};
	struct ring *r;
	int res = probe_setup(cfg, reason);

	if (res)
		return res;
	r = calloc(1, sizeof(*r));
	if (!r)
		return ring_refuse(-ENOMEM, reason, NULL);
	r->cfg = *cfg;
	r->ctr = &ignored;
	r->nr_buffers = RING_BUFFERS;
	res = probe_ring(r, reason);
	ring_exit(r);
	free(r);
	return res;
}
