/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdio.c - FILEs on a connection: libc reads, writes and closes it by itself, from the middle of the stream on
 *
 * ring: most
 */
#include <wchar.h>
#include "sock.h"

static void lines(struct peer *p, int fd)
{
	char buf[5000];
	FILE *in, *out;

	p_send(p, 2, 0, 1000);
	t_must(s_recv_stream(fd, 2, 0, 1000), "before");
	t_must(s_send_stream(fd, 1, 0, 1000), "before");
	t_eq(p_recv(p, 1, 0, 1000), 1000, "%s: before", s_case);
	p_send(p, 2, 1000, 3000);	/* there already when stdio takes over */

	in = fdopen(dup(fd), "r");
	out = fdopen(fd, "w");
	t_must(in && out, "fdopen");
	t_eq(fread(buf, 1, 3000, in), 3000, "%s: fread of what was there", s_case);
	t_eq(t_wrong(buf, 3000, 2, 1000), -1, "%s: fread", s_case);
	for (unsigned int i = 0; i < 20; i++) {
		t_fill(buf, 300, 1, 1000 + i * 300);
		t_eq(fwrite(buf, 1, 300, out), 300, "%s: fwrite", s_case);
		t_eq(fflush(out), 0, "%s: fflush", s_case);
		t_eq(p_recv(p, 1, 1000 + i * 300, 300), 300, "%s: fwrite", s_case);
		p_send(p, 2, 4000 + i * 200, 200);
		t_eq(fread(buf, 1, 200, in), 200, "%s: fread", s_case);
		t_eq(t_wrong(buf, 200, 2, 4000 + i * 200), -1, "%s: fread", s_case);
	}
	p_shutdown(p, SHUT_WR);
	t_eq(fgetc(in), EOF, "%s: EOF", s_case);
	fclose(in);
	t_eq(fputs("end", out) >= 0, 1, "fputs");
	t_eq(fclose(out), 0, "%s: fclose", s_case);
	t_eq(s_do_(p, (struct s_msg){ .order = S_RECV, .len = 0 }), 0, "nothing");
}

/* dprintf() writes by itself, too. */
static void printf_to(struct peer *p, int fd)
{
	char text[201], got[201];

	t_must(s_send_stream(fd, 1, 0, 100), "before");
	t_eq(p_recv(p, 1, 0, 100), 100, "%s: before", s_case);
	if (!p->pid) {
		memset(text, 'x', 200);
		text[200] = 0;
		t_eq(dprintf(fd, "%s", text), 200, "%s: dprintf", s_case);
		t_eq(s_recv_all(p->fd, got, 200), 200, "%s: dprintf", s_case);
		t_ok(!memcmp(text, got, 200), "%s: dprintf", s_case);
	}
	close(fd);
}

/* Much at once, and in pieces that go through the buffer. */
static void bulk(struct peer *p, int fd)
{
	static char buf[60000];
	FILE *in = fdopen(dup(fd), "r"), *out = fdopen(fd, "w");
	size_t at = 0, n;

	t_must(in && out, "fdopen");
	s_nodelay_(fd);
	for (int i = 0; i < 20; i++) {
		t_fill(buf, 50000, 1, i * 50000);
		for (at = 0; at < 50000; at += n) {
			n = 1 + t_rand() % 20000;
			if (n > 50000 - at)
				n = 50000 - at;
			t_eq(fwrite(buf + at, 1, n, out), n, "%s: fwrite", s_case);
		}
		t_eq(fflush(out), 0, "%s: fflush", s_case);
		t_eq(p_recv(p, 1, i * 50000, 50000), 50000, "%s: written", s_case);
		p_send(p, 2, i * 50000, 50000);
		for (at = 0; at < 50000; at += n) {
			n = 1 + t_rand() % 20000;
			if (n > 50000 - at)
				n = 50000 - at;
			t_eq(fread(buf + at, 1, n, in), n, "%s: fread", s_case);
		}
		t_eq(t_wrong(buf, 50000, 2, i * 50000), -1, "%s: fread", s_case);
	}
	/* the last FILE that is closed ends the stream */
	t_eq(fclose(out), 0, "%s: fclose", s_case);
	p_send(p, 2, 1000000, 10);
	t_eq(fread(buf, 1, 10, in), 10, "%s: after one fclose", s_case);
	n = fileno(in);
	t_eq(fclose(in), 0, "%s: fclose", s_case);
	t_eq(p_recv(p, 1, 1000000, 1), 0, "%s: EOF after fclose", s_case);
	t_ok(fcntl(n, F_GETFD) == -1 && errno == EBADF, "%s: closed", s_case);
}

/* Lines of text: buffered by line, read by line, wide. */
static void text(struct peer *p, int fd)
{
	char buf[100], *line = NULL;
	wchar_t wide[100];
	FILE *in, *out;
	size_t size = 0;

	if (p->pid) {
		close(fd);
		return;
	}
	in = fdopen(dup(fd), "r");
	out = fdopen(fd, "w");
	t_must(in && out, "fdopen");
	t_eq(setvbuf(out, NULL, _IOLBF, 0), 0, "setvbuf");
	fprintf(out, "line %d\nhalf", 1);
	t_eq(s_recv_all(p->fd, buf, 7), 7, "%s: a line", s_case);
	t_ok(!memcmp(buf, "line 1\n", 7), "%s: a line", s_case);
	fprintf(out, " and half\n");
	t_eq(s_recv_all(p->fd, buf, 14), 14, "%s: the next", s_case);
	t_ok(!memcmp(buf, "half and half\n", 14), "%s: the next", s_case);

	t_eq(s_send_all(p->fd, "one\ntwo\nthree\nfour", 18), 18, "text");
	t_ok(fgets(buf, sizeof(buf), in) && !strcmp(buf, "one\n"), "%s: fgets", s_case);
	t_ok(getline(&line, &size, in) == 4 && !strcmp(line, "two\n"), "%s: getline", s_case);
	t_ok(fscanf(in, "%99s", buf) == 1 && !strcmp(buf, "three"), "%s: fscanf", s_case);
	t_eq(fgetc(in), '\n', "%s: fgetc", s_case);
	t_eq(s_send_all(p->fd, "\n", 1), 1, "text");
	t_ok(fgets(buf, sizeof(buf), in) && !strcmp(buf, "four\n"), "%s: fgets of two parts", s_case);
	free(line);

	/* the same FILE made anew on nothing, the descriptor with it */
	t_ok(freopen("/dev/null", "w", out) == out && fileno(out) == fd, "%s: freopen", s_case);
	t_ok(fputs("nobody sees it\n", out) >= 0 && !fclose(out), "%s: after freopen", s_case);
	out = fdopen(dup(fileno(in)), "w");
	t_must(out, "fdopen");
	t_ok(fwide(out, 1) > 0 && fputws(L"wide\n", out) >= 0 && !fflush(out), "%s: fputws", s_case);
	t_eq(s_recv_all(p->fd, buf, 5), 5, "%s: wide", s_case);
	t_ok(!memcmp(buf, "wide\n", 5), "%s: wide", s_case);
	fclose(in);
	in = fdopen(dup(fileno(out)), "r");
	t_eq(s_send_all(p->fd, "also\n", 5), 5, "text");
	t_ok(in && fwide(in, 1) > 0 && fgetws(wide, 100, in) && !wcscmp(wide, L"also\n"), "%s: fgetws", s_case);
	t_ok(!freopen("/nonexistent/file", "r", in), "%s: freopen of what is not there", s_case);
	t_eq(fclose(out), 0, "%s: fclose", s_case);
	t_eq(s_recv_all(p->fd, buf, 1), 0, "%s: EOF", s_case);
}

/* Nothing there, and nobody there. */
static void errors(struct peer *p, int fd)
{
	FILE *in = fdopen(dup(fd), "r"), *out = fdopen(fd, "w");
	char buf[10];

	t_must(in && out, "fdopen");
	s_nonblock(fd, true);
	errno = 0;
	t_ok(fgetc(in) == EOF && ferror(in) && !feof(in) && errno == EAGAIN, "%s: EAGAIN", s_case);
	clearerr(in);
	p_send(p, 5, 0, 10);
	s_nonblock(fd, false);
	t_eq(fread(buf, 1, 10, in), 10, "%s: after EAGAIN", s_case);
	t_eq(t_wrong(buf, 10, 5, 0), -1, "%s: after EAGAIN", s_case);
	p_linger0(p);
	p_close(p);
	errno = 0;
	t_ok(fgetc(in) == EOF && ferror(in) && errno == ECONNRESET, "%s: reset", s_case);
	errno = 0;
	t_ok(fputc('x', out) == 'x' && fflush(out) == EOF && ferror(out) && errno == EPIPE, "%s: EPIPE", s_case);
	fclose(in);
	fclose(out);
}

/* A child whose standard output is the connection ends with some of it still in the buffer. */
static void leftover(struct peer *p, int fd)
{
	char want[30000], got[30000];
	pid_t pid;

	t_fill(want, sizeof(want), 7, 0);
	pid = t_fork();
	if (!pid) {
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		if (!p->pid)
			close(p->fd);
		t_eq(fread(got, 1, 100, stdin), 100, "%s: standard input", s_case);
		t_eq(t_wrong(got, 100, 8, 0), -1, "%s: standard input", s_case);
		t_eq(fwrite(want, 1, sizeof(want), stdout), sizeof(want), "%s: standard output", s_case);
		exit(t_done());		/* with up to a buffer of it to be written */
	}
	close(fd);
	p_send(p, 8, 0, 100);
	t_eq(p_recv(p, 7, 0, sizeof(want)), sizeof(want), "%s: what a child left in stdout", s_case);
	t_eq(p_recv(p, 7, sizeof(want), 1), 0, "%s: EOF after the child", s_case);
	t_reap(pid);
}

/* FILEs on something else are as ever. */
static void others(void)
{
	char path[] = "/tmp/ntbsock-stdio.XXXXXX", buf[100];
	FILE *f = fdopen(mkstemp(path), "w+"), *pipe_;

	t_must(f, "a file");
	t_ok(fputs("to a file\n", f) >= 0 && !fseek(f, 3, SEEK_SET) && fgets(buf, sizeof(buf), f) && !strcmp(buf, "a file\n"), "a file");
	t_ok(ftell(f) == 10 && !fclose(f) && !unlink(path), "a file");
	pipe_ = popen("echo from a pipe", "r");
	t_ok(pipe_ && fgets(buf, sizeof(buf), pipe_) && !strcmp(buf, "from a pipe\n") && !pclose(pipe_), "a pipe");
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	s_each(lines);
	s_each(printf_to);
	s_each(bulk);
	s_each(text);
	s_each(errors);
	s_each(leftover);
	others();
	return t_done();
}
