/* SPDX-License-Identifier: MIT */
/* The page cache: reading files into it, dropping them from it, and looking what is in it. */
#ifndef IOLAB_COPY_PAGES_H
#define IOLAB_COPY_PAGES_H

#include <stdint.h>

/* Reads the file, so that its pages are in the page cache. 0 or -errno. */
int pages_warm(int fd);

/*
 * Drops the file's pages: posix_fadvise(2) with POSIX_FADV_DONTNEED, which keeps dirty ones and
 * those somebody has mapped. tmpfs keeps all of them, for it has nowhere else to put them. 0 or
 * -errno.
 */
int pages_drop(int fd);

/*
 * How many pages the file has, and how many of them are in the page cache: mincore(2), which since
 * Linux 5.2 tells that of files only to those who own them or may write them. 0 or -errno.
 */
int pages_resident(int fd, uint64_t *pages, uint64_t *resident);

#endif
