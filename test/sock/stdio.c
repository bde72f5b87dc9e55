/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdio.c - fdopen() on a connection: libc reads and writes it by itself, from the middle of the stream on
 *
 * ring: yes
 */
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

int main(void)
{
	s_each(lines);
	s_each(printf_to);
	return t_done();
}
