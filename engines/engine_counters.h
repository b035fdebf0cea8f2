/* SPDX-License-Identifier: MIT */
/* Part of engine.h: what a worker counts, and how. */
#ifndef IOLAB_ENGINE_COUNTERS_H
#define IOLAB_ENGINE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * System calls are counted by kind where they are made. `name` is the key in the control socket's
 * JSON; `wait` is epoll_wait/poll, `ctl` is epoll_ctl, `enter` is io_uring_enter.
 */
#define SYSCALL_COUNTERS(X) \
	X(accept)           \
	X(recv)             \
	X(send)             \
	X(sendfile)         \
	X(splice)           \
	X(tee)              \
	X(connect)          \
	X(wait)             \
	X(ctl)              \
	X(pread)            \
	X(open)             \
	X(close)            \
	X(enter)            \
	X(other)

/*
 * accepts/closes: connections ever accepted and freed. connections: open now. requests: responses
 * whose last byte was handed to the kernel. bytes: bytes handed to the kernel on connections,
 * body_bytes: those of them that are response bodies. eagain: calls that found nothing to do.
 * short_moves: calls that moved less than asked. zc_sends/zc_notified/zc_copied: zero-copy sends
 * accepted, their completions, and those of them the kernel reports as copied after all. zc_bytes:
 * bytes of those sends. zc_inflight_bytes: bytes of sends whose completion is still to come, now.
 * zc_delay_ns: sum, over the zc_notified sends, of the time from a send's acceptance to its
 * completion being read. zc_waits: sends put off until a completion came, for want of room.
 * zc_waived: sends of a zero-copy engine that went by copy, because too many completions were
 * outstanding.
 * sqes/cqes: ring entries submitted and reaped. cq_overflows: waits that ended with completions
 * held back for want of room in the completion queue. no_buffers: receives that ended for want of
 * provided buffers. cancelled: operations that completed with ECANCELED.
 * relayed_bytes: bytes taken from a socket source and delivered to every living destination.
 * transfers/transfers_failed: relayed uploads, or forwarded connections, that ended well or not.
 * moves: connections handed to another worker. pipes/pipe_bytes: pipes that exist now, pooled ones
 * included, and the bytes they can hold: kernel memory that no process size shows.
 * handicap_ns: time spun for --handicap.
 */
#define PLAIN_COUNTERS(X)    \
	X(accepts)           \
	X(closes)            \
	X(connections)       \
	X(requests)          \
	X(responses_2xx)     \
	X(responses_3xx)     \
	X(responses_4xx)     \
	X(responses_5xx)     \
	X(bytes)             \
	X(body_bytes)        \
	X(eagain)            \
	X(short_moves)       \
	X(aborts)            \
	X(timeouts)          \
	X(handicap_ns)       \
	X(cache_hits)        \
	X(cache_misses)      \
	X(zc_sends)          \
	X(zc_notified)       \
	X(zc_copied)         \
	X(zc_bytes)          \
	X(zc_inflight_bytes) \
	X(zc_delay_ns)       \
	X(zc_waits)          \
	X(zc_waived)         \
	X(sqes)              \
	X(cqes)              \
	X(cq_overflows)      \
	X(no_buffers)        \
	X(cancelled)         \
	X(relayed_bytes)     \
	X(transfers)         \
	X(transfers_failed)  \
	X(moves)             \
	X(pipes)             \
	X(pipe_bytes)

/*
 * Highest values since the start, or the control command new-peaks, of one worker; the total is
 * that of the worker that had most. zc_inflight_peak_bytes: of zc_inflight_bytes. zc_delay_max_ns:
 * of one send's part of zc_delay_ns.
 */
#define PEAK_COUNTERS(X)          \
	X(zc_inflight_peak_bytes) \
	X(zc_delay_max_ns)

/*
 * One writer (the worker's thread) and any reader: a relaxed load and store compile to plain moves,
 * yet a reader never sees half a value. Each worker's block stands on its own cache lines.
 */
struct counters {
#define X(name) _Atomic uint64_t name;
	PLAIN_COUNTERS(X)
	PEAK_COUNTERS(X)
#undef X
#define X(name) _Atomic uint64_t sys_##name;
	SYSCALL_COUNTERS(X)
#undef X
} __attribute__((aligned(64)));

/* Adds n to one counter. Only its single writer may call this. */
#define count_add(ctr, name, n)                                                          \
	atomic_store_explicit(&(ctr)->name,                                              \
			      atomic_load_explicit(&(ctr)->name, memory_order_relaxed) + \
				      (uint64_t)(n),                                     \
			      memory_order_relaxed)
#define count_one(ctr, name) count_add(ctr, name, 1)

/* Raises a peak to value, unless it is higher. Only its single writer may call this. */
#define count_peak(ctr, name, value)                                                            \
	do {                                                                                    \
		uint64_t count_value = (value);                                                 \
		if (atomic_load_explicit(&(ctr)->name, memory_order_relaxed) < count_value)     \
			atomic_store_explicit(&(ctr)->name, count_value, memory_order_relaxed); \
	} while (0)

/* Adds every counter of from to to, peaks by maximum, and zeroes from. The caller is the single
 * writer of both. */
void counters_move(struct counters *to, struct counters *from);

#endif
