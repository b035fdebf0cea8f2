/* SPDX-License-Identifier: MIT */
/*
 * --handicap PERCENT: a slowdown planted on purpose. An instrument for testing instruments: who
 * claims to find a regression of 5% can be shown one.
 *
 * After each response the worker spins for PERCENT of the CPU time that a response costs this
 * process, so that a server that its CPU limits gives 1 / (1 + PERCENT / 100) of its rate. The
 * CPU time of one response is below what a clock resolves at a fair price (clock_gettime(2) of a
 * process clock is a system call), so it is that of all responses of the last half millisecond or
 * more, divided by their number; what a spin took too long or too short is settled in the next.
 */
#ifndef IOLAB_HANDICAP_H
#define IOLAB_HANDICAP_H

#include <stdatomic.h>
#include <stdint.h>

#define HANDICAP_MAX 1000

/* Where a handicap takes its time from; tests put other clocks here. Both in ns. */
struct handicap_clocks {
	uint64_t (*wall_ns)(void); /* CLOCK_MONOTONIC, read without a system call (vdso(7)) */
	uint64_t (*cpu_ns)(void);  /* CLOCK_PROCESS_CPUTIME_ID: all threads of the process */
};

/*
 * One a process, shared by its workers; zeroed but for `percent` and `clocks`. Engines with a
 * thread per connection, and workers of io_uring that the kernel makes, are in the process's clock
 * and in no other.
 */
struct handicap {
	unsigned percent; /* of the CPU time of a response; 0: none */
	struct handicap_clocks clocks;
	_Atomic uint64_t responses; /* since the start, by all workers */
	_Atomic uint64_t spun_ns;
	_Atomic uint64_t response_ns; /* to spin for each one, for now */
	_Atomic uint64_t next_ns;     /* when to measure again */
	/* Below: of whoever moved next_ns on. */
	uint64_t cpu_ns, settled_spun_ns, settled_responses;
	int64_t owed_ns; /* still to be spun; negative: spun ahead */
};

void handicap_init(struct handicap *h, unsigned percent);

/*
 * Spins for `nr` responses that have just been handed over. `unspent_ns` is the calling worker's:
 * what was too short to be spun by itself. Returns the ns spun.
 */
uint64_t handicap_spin(struct handicap *h, unsigned nr, uint64_t *unspent_ns);

#endif
