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

#endif
