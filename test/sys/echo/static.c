/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * static.c - echoes, or sends and compares; built with -static and without by test/sys/static.py
 *
 *	static server PORT CONNECTIONS
 *	static client PORT CONNECTIONS		waits at its end for standard input to end, with its connections open
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void transfer(int fd, char *buf, size_t len, int out)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = out ? write(fd, buf + done, len - done) : read(fd, buf + done, len - done);

		if (n <= 0)
			die(out ? "write" : "read");
		done += (size_t)n;
	}
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 1, 54, 117, 1000, 16385, 60000 };
	static char a[65536], b[65536];
	int server = argc == 4 && !strcmp(argv[1], "server"), lfd = -1, fd;
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	if (argc != 4)
		return 2;
	sin.sin_port = htons((uint16_t)atoi(argv[2]));
	if (server) {
		lfd = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(lfd, (struct sockaddr *)&sin, sizeof(sin)) || listen(lfd, 100))
			die("listen");
	}
	for (int i = 0; i < atoi(argv[3]); i++) {
		if (server) {
			ssize_t n;

			fd = accept(lfd, NULL, NULL);
			while ((n = read(fd, a, sizeof(a))) > 0)
				transfer(fd, a, (size_t)n, 1);
			close(fd);
			continue;
		}
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)))
			die("connect");
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			for (size_t j = 0; j < sizes[k]; j++)
				a[j] = (char)rand();
			transfer(fd, a, sizes[k], 1);
			transfer(fd, b, sizes[k], 0);
			if (memcmp(a, b, sizes[k]))
				die("other bytes came back");
		}
		if (i < atoi(argv[3]) - 1)
			close(fd);	/* a server that serves one after the other */
	}
	if (!server) {
		printf("%s same\n", argv[3]);
		fflush(stdout);
		while (getchar() != EOF)
			;
	}
	return 0;
}
