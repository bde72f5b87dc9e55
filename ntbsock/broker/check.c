// SPDX-License-Identifier: BSD-2-Clause
/* check.c - see check.h */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <unistd.h>
#include <linux/inet_diag.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "port.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define RING_LIMIT_US 20000

static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };

bool ntbs_check_bell(int fd)
{
	char path[32], target[32];
	ssize_t n;
	int flags;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	flags = fcntl(fd, F_GETFL);
	return !strcmp(target, "anon_inode:[eventfd]") && flags >= 0 && !fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

bool ntbs_check_memfd(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS); /* EINVAL on whatever is not a memfd */
	struct statfs fs;

	return seals >= 0 && (seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW) && !fstatfs(fd, &fs) &&
	       fs.f_type != HUGETLBFS_MAGIC;
}

pid_t ntbs_check_pidfd(int fd)
{
	char path[40], line[80];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (!pid && fgets(line, sizeof(line), f))
		sscanf(line, "Pid: %d", &pid);
	fclose(f);
	return pid > 0 ? pid : 0;
}

bool ntbs_check_pipe(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISFIFO(st.st_mode);
}

static int get_int(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) ? -1 : value;
}

static uint64_t netns_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) ? 0 : cookie;
}

uint64_t ntbs_check_own_netns(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;

	if (fd < 0)
		return 0;
	cookie = netns_of(fd);
	close(fd);
	return cookie;
}

/* IPv4 comes out v4-mapped. */
static bool address(const struct sockaddr_storage *ss, uint8_t addr[16], uint16_t *port)
{
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)ss;

		memcpy(addr, v4_mapped, sizeof(v4_mapped));
		memcpy(addr + 12, &in->sin_addr, 4);
		*port = ntohs(in->sin_port);
		return true;
	}
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;

		memcpy(addr, &in6->sin6_addr, 16);
		*port = ntohs(in6->sin6_port);
		return true;
	}
	return false;
}

int ntbs_check_proof(int fd, const struct ntbs_tuple *tuple, uint64_t netns)
{
	struct sockaddr_storage self = { 0 }, peer = { 0 };
	socklen_t self_len = sizeof(self), peer_len = sizeof(peer);
	struct ntbs_tuple mirror = { 0 };
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISSOCK(st.st_mode) || get_int(fd, SO_TYPE) != SOCK_STREAM ||
	    get_int(fd, SO_PROTOCOL) != IPPROTO_TCP)
		return -EPERM;
	if (getsockname(fd, (struct sockaddr *)&self, &self_len) ||
	    getpeername(fd, (struct sockaddr *)&peer, &peer_len))
		return -errno;
	if (!address(&self, mirror.raddr, &mirror.rport) || !address(&peer, mirror.laddr, &mirror.lport) ||
	    memcmp(&mirror, tuple, sizeof(mirror)))
		return -EPERM;
	/* Anybody may have a network namespace of his own, with any addresses in it. */
	return netns && netns_of(fd) == netns ? 0 : -EPERM;
}

/* An IPv6 socket is shown with 16 bytes, also when its addresses are v4-mapped and it was found as IPv4. */
static bool same_address(const struct inet_diag_msg *found, const __be32 *shown, const uint8_t want[16])
{
	if (found->idiag_family == AF_INET)
		return !memcmp(want, v4_mapped, sizeof(v4_mapped)) && !memcmp(shown, want + 12, 4);
	return !memcmp(shown, want, 16);
}

/* One exact lookup.  @family says how @want's addresses are written. */
static int lookup(int nl, const struct ntbs_tuple *want, bool v4, struct inet_diag_msg *found)
{
	struct {
		struct nlmsghdr nlh;
		struct inet_diag_req_v2 req;
	} ask = {
		.nlh = {.nlmsg_len = sizeof(ask),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST},
		.req =
			{
				.sdiag_family = v4 ? AF_INET : AF_INET6,
				.sdiag_protocol = IPPROTO_TCP,
				.idiag_states = ~0u,
				.id =
					{
						.idiag_sport = htons(want->lport),
						.idiag_dport = htons(want->rport),
						.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE},
					},
			},
	};
	union {
		struct nlmsghdr nlh;
		char bytes[4096];
	} answer;
	ssize_t n;

	memcpy(ask.req.id.idiag_src, v4 ? want->laddr + 12 : want->laddr, v4 ? 4 : 16);
	memcpy(ask.req.id.idiag_dst, v4 ? want->raddr + 12 : want->raddr, v4 ? 4 : 16);
	if (send(nl, &ask, sizeof(ask), 0) < 0)
		return -errno;
	n = recv(nl, &answer, sizeof(answer), MSG_DONTWAIT); /* the kernel has answered within send() */
	if (n < 0)
		return -errno;
	if (!NLMSG_OK(&answer.nlh, (size_t)n))
		return -EPROTO;
	if (answer.nlh.nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = NLMSG_DATA(&answer.nlh);

		return answer.nlh.nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) && e->error < 0 ? e->error : -EPROTO;
	}
	if (answer.nlh.nlmsg_type != SOCK_DIAG_BY_FAMILY || answer.nlh.nlmsg_len < NLMSG_LENGTH(sizeof(*found)))
		return -EPROTO;
	memcpy(found, NLMSG_DATA(&answer.nlh), sizeof(*found));
	/* Without a connection of these addresses the kernel answers with the listener: that is not it. */
	if (!same_address(found, found->id.idiag_src, want->laddr) ||
	    !same_address(found, found->id.idiag_dst, want->raddr) ||
	    ntohs(found->id.idiag_sport) != want->lport || ntohs(found->id.idiag_dport) != want->rport)
		return -ENOENT;
	return 0;
}

uint64_t ntbs_check_cookie(int fd)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) ? 0 : cookie;
}

int ntbs_check_owner(const struct ntbs_tuple *tuple, uint64_t netns, uint32_t uid, const uint64_t *vouched, unsigned nr)
{
	struct inet_diag_msg found = { 0 };
	bool v4 = !memcmp(tuple->laddr, v4_mapped, sizeof(v4_mapped)) &&
		  !memcmp(tuple->raddr, v4_mapped, sizeof(v4_mapped));
	int nl, ret;

	if (!netns || netns != ntbs_check_own_netns())
		return -EXDEV;
	nl = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (nl < 0)
		return -errno;
	ret = lookup(nl, tuple, v4, &found); /* finds IPv6 sockets with v4-mapped addresses as IPv4, too */
	close(nl);
	if (ret)
		return ret;
	if (found.idiag_state != TCP_ESTABLISHED && found.idiag_state != TCP_CLOSE_WAIT)
		return -ENOTCONN;
	if (found.idiag_uid == uid)
		return 0;
	for (unsigned i = 0; i < nr; i++) {
		if (vouched[i] && (uint32_t)vouched[i] == found.id.idiag_cookie[0] &&
		    (uint32_t)(vouched[i] >> 32) == found.id.idiag_cookie[1])
			return 0;
	}
	return -EPERM;
}

static void on_alarm(int sig)
{
}

/*
 * A write to an eventfd at its limit blocks, unless it is non-blocking; and everybody who shares the file description can
 * take that back between any two instructions of ours.  Where the kernel knows of no other way a timer stands by that
 * interrupts us.
 */
int ntbs_check_ring(int bell_fd)
{
	const struct itimerval off = { 0 },
			       on = { .it_value.tv_usec = RING_LIMIT_US, .it_interval.tv_usec = RING_LIMIT_US };
	const struct sigaction act = { .sa_handler = on_alarm }; /* no SA_RESTART */
	struct sigaction old;
	uint64_t one = 1;
	int ret;

	if (ntbs_bell_request(bell_fd))
		return 0;
	sigaction(SIGALRM, &act, &old);
	setitimer(ITIMER_REAL, &on, NULL);
	ret = write(bell_fd, &one, sizeof(one)) < 0 ? -errno : 0;
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	return ret == -EAGAIN ? 0 : ret; /* at its limit it is readable, which is what was wanted */
}
