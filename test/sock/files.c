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

int main(void)
{
	struct stat st;
	int sv[2];

	signal(SIGPIPE, SIG_IGN);
	s_each(sendfiles);
	s_each(splices);
	s_pair(AF_INET, sv);
	t_ok(!fstat(sv[0], &st) && S_ISSOCK(st.st_mode), "fstat says socket");
	t_ok(!isatty(sv[0]), "not a terminal");
	close(sv[0]);
	close(sv[1]);
	return t_done();
}
