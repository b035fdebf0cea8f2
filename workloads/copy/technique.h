/* SPDX-License-Identifier: MIT */
/*
 * The contract between the copier (session.c) and the techniques, one file each.
 *
 * The copier says which files, when, and how often; a technique moves the bytes of one file into
 * another, by the system calls that its name says and by no others. What it cannot do here is an
 * error with words, never a silent detour: a technique that fell back would measure another one.
 *
 * Adding one: a file NAME.c that defines `const struct technique technique_NAME`, and NAME in the
 * list of CMakeLists.txt.
 */
#ifndef IOLAB_COPY_TECHNIQUE_H
#define IOLAB_COPY_TECHNIQUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REASON_MAX  256
#define OPTIONS_MAX 8

enum option_type {
	OPTION_SIZE, /* bytes, with the suffixes k, m, g */
	OPTION_INT,
	OPTION_BOOL,
	OPTION_ENUM
};

/* One option. Values are int64_t: bytes, a number, 0 or 1, or the index into `values`. */
struct option_def {
	const char *name;
	const char *help;
	const char *const *values; /* OPTION_ENUM: ends with NULL */
	int64_t def, min, max;
	enum option_type type;
};

/* Files that one operation copies. Names are relative to the directories, and borrowed. */
struct file_batch {
	int src_dir, dst_dir;
	const char *const *names;
	unsigned nr;
	uint64_t size; /* of each, in bytes */
	bool durable;  /* each copy is on the disk (fdatasync(2)) when the operation ends */
};

/*
 * A technique with its options, set up for files of one size. Filled by the copier up to `priv`;
 * the rest is the technique's own.
 */
struct copier {
	const struct technique *technique;
	const int64_t *opt; /* as many as technique->options, borrowed */
	uint64_t size;	    /* largest file it will meet */
	unsigned batch;	    /* most files of an operation */
	int src_dir, dst_dir;
	int open_flags; /* for both files, beside the access mode: 0 or O_DIRECT; set by open() */
	char *why;	/* REASON_MAX bytes for what failed, in words; may be left empty */
	void *priv;	/* the technique's, from open() to close() */
};

/* Everything is called from one thread. */
struct technique {
	const char *name;
	const char *summary;
	const char *since;		  /* oldest kernel that has all of it: information only */
	const struct option_def *options; /* ends with name == NULL */

	/*
	 * Sets up buffers, pipes or rings for c->size and c->batch, and finds out by trying whether
	 * the kernel and the two directories can do it. 0, or -errno with one sentence in c->why.
	 * close() follows a failed open() as well, so it must accept what is half made.
	 */
	int (*open)(struct copier *c);

	/*
	 * Copies bytes 0 to `size` of `src` to the same place of `dst`. Both are regular files,
	 * opened with c->open_flags, at file position 0; `dst` may hold other bytes up to `size`.
	 * Short and interrupted calls are gone on with. Bytes of a source that grew beyond `size`
	 * are left; a source that ends early is -ENODATA, and then `dst` is of no use.
	 * 0 or -errno. On return nothing of it is under way.
	 */
	int (*copy)(struct copier *c, int src, int dst, uint64_t size);

	/*
	 * Copies a batch from opening to closing, for those that have a way of their own to do
	 * that. NULL, or -ENOTSUP without having touched anything: the copier does it file by file.
	 */
	int (*copy_files)(struct copier *c, const struct file_batch *batch);

	/* NULL: open() keeps nothing. */
	void (*close)(struct copier *c);
};

/* Every technique of this build; the list stands in CMakeLists.txt. */
extern const struct technique *const techniques[];
extern const unsigned nr_techniques;

/* Notes why something is impossible, with the text of an error. Returns `err` (a -errno). */
int refuse(struct copier *c, int err, const char *what);

#endif
