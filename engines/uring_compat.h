/* SPDX-License-Identifier: MIT */
/*
 * What the kernel has and liburing 2.3 (Debian 12) does not yet name. Values are the kernel's ABI
 * (include/uapi/linux/io_uring.h); whether the running kernel knows them is for probe() to find
 * out.
 */
#ifndef IOLAB_URING_COMPAT_H
#define IOLAB_URING_COMPAT_H

#include <liburing.h>

#ifndef IORING_SETUP_SINGLE_ISSUER /* Linux 6.0 */
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN /* Linux 6.1 */
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif
#ifndef IORING_RECV_MULTISHOT /* Linux 6.0 */
#define IORING_RECV_MULTISHOT (1U << 1)
#endif
#ifndef IORING_ASYNC_CANCEL_FD /* Linux 5.19 */
#define IORING_ASYNC_CANCEL_FD (1U << 1)
#endif
#ifndef IORING_SEND_ZC_REPORT_USAGE /* Linux 6.2 */
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED /* Linux 6.2 */
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

/* What liburing 2.3 has no name for has one of ours: it is the same with every liburing. */
#define URING_FEAT_RECVSEND_BUNDLE (1U << 14) /* IORING_FEAT_RECVSEND_BUNDLE, Linux 6.10 */
#define URING_RECVSEND_BUNDLE	   (1U << 4)  /* IORING_RECVSEND_BUNDLE, in sqe->ioprio */
#define URING_REGISTER_NAPI	   27	      /* IORING_REGISTER_NAPI, Linux 6.9 */

/* The argument of URING_REGISTER_NAPI. */
struct uring_napi {
	uint32_t busy_poll_to; /* us */
	uint8_t prefer_busy_poll;
	uint8_t pad[3];
	uint64_t resv;
};

#endif
