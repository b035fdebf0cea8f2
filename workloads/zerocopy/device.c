// SPDX-License-Identifier: MIT
/*
 * What decides beforehand whether a send can leave without a copy. The kernel copies
 * - where the interface has no scatter-gather: tcp_sendmsg_locked() takes page references only with
 *   NETIF_F_SG (net/ipv4/tcp.c);
 * - what turns to the receiving side of this host, as on loopback and veth: nobody could say when
 *   the receiver is finished with the pages (skb_orphan_frags_rx(), net/core/dev.c);
 * - what is queued for the process behind a tun or tap device (tun_net_xmit(), drivers/net/tun.c),
 *   or is seen by a packet socket (dev_queue_xmit_nit()), for the same reason.
 */
#include "check.h"

#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	if (!a || a->sa_family != b->sa_family)
		return false;
	if (a->sa_family == AF_INET)
		return !memcmp(&((const struct sockaddr_in *)a)->sin_addr,
			       &((const struct sockaddr_in *)b)->sin_addr, sizeof(struct in_addr));
	return a->sa_family == AF_INET6 &&
	       !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
		       &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr));
}

static bool find_by_address(const struct sockaddr *addr, char name[16])
{
	struct ifaddrs *list;
	bool found = false;

	if (getifaddrs(&list))
		return false;
	for (struct ifaddrs *at = list; at && !found; at = at->ifa_next) {
		found = same_address(at->ifa_addr, addr);
		if (found)
			snprintf(name, 16, "%s", at->ifa_name);
	}
	freeifaddrs(list);
	return found;
}

/* The route's source address names the interface; an address of this host goes over loopback. */
static void find_name(const struct plan *p, char name[16])
{
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	int fd;

	if (find_by_address((const struct sockaddr *)&p->to, name)) {
		strcpy(name, "lo");
		return;
	}
	if (p->interface) {
		snprintf(name, 16, "%s", p->interface);
		return;
	}
	fd = socket(p->to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&p->to, p->to_len) &&
	    !getsockname(fd, (struct sockaddr *)&from, &len))
		find_by_address((const struct sockaddr *)&from, name);
	if (fd >= 0)
		close(fd);
}

static void ask_ethtool(struct device *d)
{
	struct ethtool_value sg = {.cmd = ETHTOOL_GSG};
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {.ifr_data = (char *)&sg};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	memcpy(ifr.ifr_name, d->name, sizeof(d->name));
	if (!ioctl(fd, SIOCETHTOOL, &ifr))
		d->scatter_gather = sg.data != 0;
	ifr.ifr_data = (char *)&info;
	if (!ioctl(fd, SIOCETHTOOL, &ifr))
		memcpy(d->driver, info.driver, sizeof(d->driver) - 1);
	if (!ioctl(fd, SIOCGIFFLAGS, &ifr))
		d->loopback = ifr.ifr_flags & IFF_LOOPBACK;
	close(fd);
}

/*
 * Lines of /proc/net/packet: sk RefCnt Type Proto Iface R ... in hex, hex, decimal, hex, decimal.
 * Those that see what is sent ask for ETH_P_ALL (3) and run; interface 0 is every one.
 */
static int count_packet_sockets(const char *name)
{
	int index = (int)if_nametoindex(name), nr = 0, iface, running;
	FILE *f = fopen("/proc/net/packet", "re");
	unsigned proto;
	char line[256];

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*s %*s %x %d %d", &proto, &iface, &running) == 3)
			nr += proto == 3 && running && (!iface || iface == index);
	fclose(f);
	return nr;
}

void device_of(const struct plan *p, struct device *d)
{
	*d = (struct device){.scatter_gather = -1, .packet_sockets = -1};
	find_name(p, d->name);
	if (!*d->name)
		return;
	ask_ethtool(d);
	d->packet_sockets = count_packet_sockets(d->name);
}

const char *device_copies(const struct device *d)
{
	if (d->loopback)
		return "loopback: sender and receiver are one host, and the receiving side copies";
	if (!strcmp(d->driver, "veth"))
		return "veth: both ends are one host, and the receiving side copies";
	if (!strcmp(d->driver, "tun"))
		return "tun or tap: it copies for the process or virtual machine behind it";
	if (d->scatter_gather == 0)
		return "scatter-gather is off: pages can only be gathered by copying (ethtool -K)";
	if (d->packet_sockets > 0)
		return "an AF_PACKET socket is open and sees each packet: it gets a copy "
		       "(/proc/net/packet)";
	return NULL;
}
