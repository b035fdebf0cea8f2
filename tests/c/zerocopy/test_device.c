// SPDX-License-Identifier: MIT
/*
 * device.c: why the kernel has to copy on an interface. The same reasons are `doctor`'s
 * (harness/iolab/interfaces.py).
 */
#include "test.h"

#include "check.h"

#include <string.h>

/* A card that nothing is known against. */
#define CARD .name = "eth0", .driver = "virtio_net", .scatter_gather = 1

static void every_reason_to_copy_is_named(void **state)
{
	static const struct {
		struct device d;
		const char *says;
	} cases[] = {
		{{.name = "lo", .loopback = true, .scatter_gather = 1}, "loopback"},
		{{.name = "veth0", .driver = "veth", .scatter_gather = 1}, "veth"},
		{{.name = "tap0", .driver = "tun", .scatter_gather = 1}, "tun or tap"},
		{{.name = "eth0", .driver = "e1000", .scatter_gather = 0}, "scatter-gather is off"},
		{{CARD, .packet_sockets = 1}, "an AF_PACKET socket"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *why = device_copies(&cases[i].d);

		assert_non_null(why);
		if (strncmp(why, cases[i].says, strlen(cases[i].says)))
			fail_msg("%s: %s", cases[i].says, why);
	}
}

static void what_is_unknown_is_no_reason(void **state)
{
	const struct device card = {CARD};
	const struct device unknown = {.scatter_gather = -1, .packet_sockets = -1};

	assert_null(device_copies(&card));
	assert_null(device_copies(&unknown));
}

/* The address of this host is reached over loopback, whatever interface it belongs to. */
static void the_device_of_an_address_of_this_host_is_loopback(void **state)
{
	struct plan p = {.interface = "eth0", .to_len = sizeof(struct sockaddr_in)};
	struct sockaddr_in *to = (struct sockaddr_in *)&p.to;
	struct device d;

	to->sin_family = AF_INET;
	to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	device_of(&p, &d);
	assert_string_equal(d.name, "lo");
	assert_true(d.loopback);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_reason_to_copy_is_named),
		cmocka_unit_test(what_is_unknown_is_no_reason),
		cmocka_unit_test(the_device_of_an_address_of_this_host_is_loopback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
