/* SPDX-License-Identifier: MIT */
/* Seeded random numbers: the same seed gives the same run. */
#ifndef IOLAB_LOAD_RANDOM_H
#define IOLAB_LOAD_RANDOM_H

#include <stdint.h>

/* splitmix64 (Steele, Lea, Flood 2014): a 64-bit generator that any seed serves. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Uniform in [0, 1), in steps of 2^-53: what a double can hold there without rounding. */
static inline double random_unit(uint64_t *state)
{
	return (double)(random_next(state) >> 11) * 0x1p-53;
}

#endif
