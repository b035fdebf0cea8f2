/* SPDX-License-Identifier: MIT */
/*
 * Notifications of MSG_ZEROCOPY sends, as the kernel puts them into a socket's error queue
 * (Documentation/networking/msg_zerocopy.rst; Linux 4.14).
 */
#ifndef IOLAB_ZC_NOTIFICATION_H
#define IOLAB_ZC_NOTIFICATION_H

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* The kernel is finished with sends lo to hi of the socket, both included, modulo 2^32. */
struct zc_notification {
	uint32_t lo, hi;
	bool copied; /* it has copied them after all */
};

/* Takes one out of fd's error queue, without waiting. 1, 0 when there is none, or -errno. */
static inline int zc_notification_read(int fd, struct zc_notification *n)
{
	char control[CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6))];
	struct msghdr msg = {.msg_control = control, .msg_controllen = sizeof(control)};
	struct sock_extended_err err;
	struct cmsghdr *cm;

	*n = (struct zc_notification){0};
	if (recvmsg(fd, &msg, MSG_ERRQUEUE) < 0)
		return errno == EAGAIN ? 0 : -errno;
	cm = CMSG_FIRSTHDR(&msg);
	if (!cm)
		return -EPROTO;
	memcpy(&err, CMSG_DATA(cm), sizeof(err));
	if (err.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
		return err.ee_errno ? -(int)err.ee_errno : -EPROTO;
	*n = (struct zc_notification){.lo = err.ee_info,
				      .hi = err.ee_data,
				      .copied = err.ee_code & SO_EE_CODE_ZEROCOPY_COPIED};
	return 1;
}

#endif
