/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * files.c - sendfile, splice and copy between files, pipes and connections
 *
 * ring: yes
 */
#include <sys/sendfile.h>
#include <sys/stat.h>
#include "sock.h"

#define LEN 300000u

static int file_of(uint64_t stream)
{
	int f = open(".", O_TMPFILE | O_RDWR, 0600);
	char *buf = malloc(LEN);

	t_must(f >= 0, "temporary file");
	t_fill(buf, LEN, stream, 0);
	t_must(write(f, buf, LEN) == LEN && !lseek(f, 0, SEEK_SET), "write");
	free(buf);
	return f;
}

static void sendfiles(struct peer *p, int fd)
{
	int f = file_of(7);
	off_t off = 1000;
	/* nobody reads meanwhile if the peer is in this process: then it must fit */
	size_t sent = p->pid ? 0 : LEN - 20000;

	t_must(lseek(f, (off_t)sent, SEEK_SET) == (off_t)sent, "seek");
	if (p->pid)
		s_order(p, (struct s_msg){ .order = S_RECV, .stream = 7, .len = LEN });
	while (sent < LEN) {
		ssize_t n = sendfile(fd, f, NULL, LEN - sent < 70000 ? LEN - sent : 70000);

		t_must(n > 0, "%s: sendfile gives %zd", s_case, n);
		sent += (size_t)n;
	}
	t_eq(lseek(f, 0, SEEK_CUR), LEN, "%s: sendfile moves the file position", s_case);
	t_eq(sendfile(fd, f, NULL, 10), 0, "%s: sendfile at the end", s_case);
	if (p->pid)
		t_eq(s_answer(p), LEN, "%s: sendfile", s_case);
	else
		t_eq(p_recv(p, 7, LEN - 20000, 20000), 20000, "%s: sendfile", s_case);

	/* with an offset of its own: the position stays */
	t_eq(sendfile(fd, f, &off, 5000), 5000, "%s: sendfile from an offset", s_case);
	t_ok(off == 6000 && lseek(f, 0, SEEK_CUR) == LEN, "%s: offset %lld", s_case, (long long)off);
	t_eq(p_recv(p, 7, 1000, 5000), 5000, "%s: from an offset", s_case);
	/* not into a direction that has been shut */
	t_ok(!shutdown(fd, SHUT_WR), "shutdown");
	off = 0;
	t_ok(sendfile(fd, f, &off, 10) == -1 && errno == EPIPE, "%s: sendfile after SHUT_WR", s_case);
	close(f);
	close(fd);
}

static void splices(struct peer *p, int fd)
{
	char buf[5000];
	int pi[2];
	uint64_t pos = 0;
	ssize_t n;

	t_must(!pipe(pi), "pipe");
	/* pipe to socket */
	for (unsigned int i = 0; i < 20; i++) {
		t_fill(buf, 5000, 1, pos);
		t_must(write(pi[1], buf, 5000) == 5000, "pipe");
		for (size_t done = 0; done < 5000; done += (size_t)n) {
			n = splice(pi[0], NULL, fd, NULL, 5000 - done, SPLICE_F_MOVE);
			t_must(n > 0, "%s: splice to the socket gives %zd", s_case, n);
		}
		t_eq(p_recv(p, 1, pos, 5000), 5000, "%s: spliced", s_case);
		pos += 5000;
	}
	/* socket to pipe */
	pos = 0;
	s_nonblock(fd, true);	/* SPLICE_F_NONBLOCK is about the pipe alone */
	t_ok(splice(fd, NULL, pi[1], NULL, 100, 0) == -1 && errno == EAGAIN, "%s: nothing to splice", s_case);
	s_nonblock(fd, false);
	for (unsigned int i = 0; i < 20; i++) {
		p_send(p, 2, pos, 5000);
		for (size_t done = 0; done < 5000; done += (size_t)n) {
			n = splice(fd, NULL, pi[1], NULL, 5000 - done, SPLICE_F_MORE);
			t_must(n > 0, "%s: splice from the socket gives %zd", s_case, n);
			t_must(read(pi[0], buf, (size_t)n) == n, "pipe");
			t_eq(t_wrong(buf, (size_t)n, 2, pos + done), -1, "%s: spliced bytes", s_case);
		}
		pos += 5000;
	}
	/* ordinary calls go on after it */
	p_send(p, 2, pos, 1000);
	t_must(s_recv_stream(fd, 2, pos, 1000), "after splice");
	t_must(s_send_stream(fd, 1, 100000, 1000), "after splice");
	t_eq(p_recv(p, 1, 100000, 1000), 1000, "%s: after splice", s_case);
	p_shutdown(p, SHUT_WR);
	t_eq(splice(fd, NULL, pi[1], NULL, 100, 0), 0, "%s: splice at EOF", s_case);
	close(pi[0]);
	close(pi[1]);
	close(fd);
}

/* Two readers of one connection, one of which splices: each byte comes to one of them. */
#define SHARED 600000u

static struct {
	int fd;
	_Atomic size_t bytes;
	_Atomic uint64_t sum;
	_Atomic bool over;
} shared;

static bool count_in(const char *buf, ssize_t n)
{
	uint64_t sum = 0;

	for (ssize_t i = 0; i < n; i++)
		sum += (uint8_t)buf[i] * (uint64_t)(uint8_t)buf[i];
	shared.sum += sum;
	shared.bytes += (size_t)n;
	return shared.bytes >= SHARED;
}

static void *receiver(void *arg)
{
	char buf[3000];

	while (!shared.over) {
		ssize_t n = recv(shared.fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n > 0 && count_in(buf, n))
			break;
	}
	return NULL;
}

static void splice_shared(struct peer *p, int fd)
{
	uint64_t want = 0;
	double end = t_now() + 10;
	char buf[8192];
	pthread_t t;
	int pi[2];

	for (uint64_t i = 0; i < SHARED; i++)
		want += t_byte(5, i) * (uint64_t)t_byte(5, i);
	t_must(!pipe(pi), "pipe");
	shared.fd = fd;
	shared.bytes = shared.sum = shared.over = 0;
	s_nonblock(fd, true);
	t_must(!pthread_create(&t, NULL, receiver, NULL), "thread");
	p_later(p, S_SEND_LATER, 0, 5, 0, SHARED);
	while (shared.bytes < SHARED && t_now() < end) {
		ssize_t n = splice(fd, NULL, pi[1], NULL, sizeof(buf), 0);

		t_must(n > 0 || (n < 0 && errno == EAGAIN), "%s: splice gives %zd", s_case, n);
		if (n > 0) {
			t_must(read(pi[0], buf, sizeof(buf)) == n, "%s: pipe", s_case);
			count_in(buf, n);
		}
	}
	shared.over = true;
	pthread_join(t, NULL);
	t_eq(shared.bytes, SHARED, "%s: bytes for two readers", s_case);
	t_ok(shared.sum == want, "%s: the same bytes", s_case);
	t_ok(recv(fd, buf, 1, 0) == -1 && errno == EAGAIN, "%s: none is left", s_case);
	close(pi[0]);
	close(pi[1]);
	close(fd);
}

static void *drain(void *arg)
{
	char buf[65536];

	usleep(50000);
	t_eq(read(*(int *)arg, buf, sizeof(buf)), 65536, "%s: full pipe", s_case);
	return NULL;
}

/* Into a pipe that has no room, or no reader, or is none: nothing is taken. */
static void splice_full(struct peer *p, int fd)
{
	char buf[65536] = { 0 };
	pthread_t t;
	int pi[2];

	t_must(!pipe(pi) && fcntl(pi[1], F_SETPIPE_SZ, 65536) == 65536, "pipe");
	t_must(write(pi[1], buf, sizeof(buf)) == sizeof(buf), "full");
	p_send(p, 2, 0, 1000);
	t_must(recv(fd, buf, 1000, MSG_PEEK | MSG_WAITALL) == 1000, "%s: has come", s_case);
	t_ok(splice(fd, NULL, pi[1], NULL, 1000, SPLICE_F_NONBLOCK) == -1 && errno == EAGAIN, "%s: full, flag", s_case);
	s_nonblock(pi[1], true);
	t_ok(splice(fd, NULL, pi[1], NULL, 1000, 0) == -1 && errno == EAGAIN, "%s: full, O_NONBLOCK", s_case);
	s_nonblock(pi[1], false);
	t_ok(splice(fd, NULL, pi[0], NULL, 1000, 0) == -1 && errno == EBADF, "%s: the end that reads", s_case);
	t_ok(splice(fd, NULL, 2, NULL, 1000, 0) == -1 && errno == EINVAL, "%s: no pipe", s_case);
	t_must(!pthread_create(&t, NULL, drain, &pi[0]), "thread");
	t_eq(splice(fd, NULL, pi[1], NULL, 400, 0), 400, "%s: waits for room", s_case);
	pthread_join(t, NULL);
	t_eq(read(pi[0], buf, sizeof(buf)), 400, "%s: in the pipe", s_case);
	t_eq(t_wrong(buf, 400, 2, 0), -1, "%s: spliced bytes", s_case);
	close(pi[0]);
	t_ok(splice(fd, NULL, pi[1], NULL, 1000, 0) == -1 && errno == EPIPE, "%s: no reader", s_case);
	t_ok(s_recv_stream(fd, 2, 400, 600), "%s: what is left", s_case);
	close(pi[1]);
	close(fd);
}

int main(void)
{
	struct stat st;
	int sv[2];

	signal(SIGPIPE, SIG_IGN);
	s_each(sendfiles);
	s_each(splices);
	s_each(splice_full);
	s_each(splice_shared);
	s_pair(AF_INET, sv);
	t_ok(!fstat(sv[0], &st) && S_ISSOCK(st.st_mode), "fstat says socket");
	t_ok(!isatty(sv[0]), "not a terminal");
	close(sv[0]);
	close(sv[1]);
	return t_done();
}
