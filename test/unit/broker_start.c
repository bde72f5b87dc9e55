// SPDX-License-Identifier: BSD-2-Clause
/*
 * broker_start.c - options, the run directory, one broker at a time, and how brokers end
 */
#include "broker_t.h"

static int fails(const char *says, ...)
{
	const char *a[8] = { 0 };
	int status = -1;
	va_list ap;

	va_start(ap, says);
	for (int i = 0; i < 7 && (a[i] = va_arg(ap, const char *)); i++)
		;
	va_end(ap);
	bt_broker(bt_path("fail"), &status, a[0], a[1], a[2], a[3], a[4], a[5], a[6], NULL);
	must(bt_file_has(bt_path("fail"), says), "\"%s\" is not said", says);
	return status;
}

static void options(void)
{
	must(fails("--nonsense", "--nonsense", NULL) == 2, "unknown option");
	must(fails("surplus", "surplus", NULL) == 2, "argument");
	must(fails("--node \"256\"", "--node", "256", NULL) == 2, "--node");
	must(fails("--node \"1x\"", "--node", "1x", NULL) == 2, "--node");
	must(fails("loud", "--log-level", "loud", NULL) == 2, "--log-level");
	must(fails("--node", "--cable", "/x", NULL) == 2, "--cable without --node");
	must(fails("--node", "--port", "emu:/x", NULL) == 2, "--port without --node");
	must(fails("of no kind", "--run-dir", bt_path("p"), "--node", "1", "--port", "pigeons", NULL) == 1, "--port of no kind");
	must(fails("is none of", "--run-dir", bt_path("p"), "--node", "1", "--port", "emu:/x,cut=no", NULL) == 1, "option of a port");
	must(fails("0000:ff:1f.7: there is no such PCI function", "--run-dir", bt_path("p"), "--node", "1", "--port", "0000:ff:1f.7", NULL) == 1,
	     "--port of no function");
	must(fails("of no kind", "--run-dir", bt_path("p"), "--node", "1", "--port", "0000:ff:20.7", NULL) == 1, "an address that there is none");
	must(fails("is none of arena=MIB", "--run-dir", bt_path("p"), "--node", "1", "--port", "0000:ff:1f.7,arena=0", NULL) == 1,
	     "option of a function");
	must(fails("exclude each other", "--node", "1", "--port", "emu:/x", "--cable", "/y", NULL) == 2, "--port and --cable");
	must(fails("--idle-seconds", "--idle-seconds", "0", NULL) == 2, "--idle-seconds");
}

static void run_dirs(void)
{
	must(!mkdir(bt_path("open"), 0755) && !chmod(bt_path("open"), 0777), "mkdir");
	must(fails("writable by other users", "--run-dir", bt_path("open"), NULL) == 1, "open directory");
	must(!symlink(bt_dir, bt_path("link")), "symlink");
	must(fails("not a directory", "--run-dir", bt_path("link"), NULL) == 1, "symbolic link");
	bt_write(bt_path("file"), "");
	must(fails("not a directory", "--run-dir", bt_path("file"), NULL) == 1, "file");
	must(fails("make its parent", "--run-dir", bt_path("no/where"), NULL) == 1, "no parent");
	if (!geteuid()) {
		must(!mkdir(bt_path("theirs"), 0755) && !chown(bt_path("theirs"), 12345, 12345), "chown");
		must(fails("owned by another user", "--run-dir", bt_path("theirs"), NULL) == 1, "owner");
	}
}

static void one_at_a_time(void)
{
	const char *run = strdup(bt_path("run"));
	struct bt_client c, again;
	struct stat st;
	pid_t broker = bt_broker(bt_path("log"), NULL, "--run-dir", run, NULL);
	int status = -1;

	must(!stat(bt_path("run"), &st) && (st.st_mode & 0777) == (geteuid() ? 0700 : 0755), "mode of the directory: %o", st.st_mode);
	must(!stat(bt_path("run/broker.sock"), &st) && (st.st_mode & 0777) == (geteuid() ? 0600 : 0666), "mode of the socket: %o",
	     st.st_mode);
	must(fails("another broker runs in", "--run-dir", run, NULL) == 1, "second broker");
	bt_broker(bt_path("fail"), &status, "--run-dir", run, "--private", NULL);
	must(status == 0 && !bt_file_has(bt_path("fail"), "ntbsockd"), "second, private broker");
	c = bt_hello(run, 0, "c");
	bt_quiet(&c);

	/* Killed: its socket is stale, and replaced.  The client is told by the end of its connection. */
	must(WIFSIGNALED(bt_end(broker, SIGKILL)), "kill");
	bt_expect_closed(c.fd);
	must(!access(bt_path("run/broker.sock"), F_OK), "no stale socket to test with");
	broker = bt_broker(bt_path("log"), NULL, "--run-dir", run, NULL);
	again = bt_hello(run, 0, "again");
	must(!bt_same_file(c.board_fd, again.board_fd), "the board of the old broker");
	must(ntbs_le32_read(&c.board->magic) == NTBS_BOARD_MAGIC, "the old board is not usable any more");
	bt_bye(&c);
	bt_bye(&again);
	must(bt_end(broker, SIGTERM) == 0, "SIGTERM");
	must(access(bt_path("run/broker.sock"), F_OK) && errno == ENOENT, "the socket is still there");
}

static void idle(void)
{
	const char *run = strdup(bt_path("private"));
	struct timespec begin, end;
	struct ntbs_msg_status st;
	struct bt_client c;
	pid_t broker;
	int status;

	broker = bt_broker(bt_path("log"), NULL, "--run-dir", run, "--private", "--idle-seconds", "1", NULL);
	c = bt_hello(run, 0, "c");
	bt_status(&c, &st);
	must(st.private_broker == 1, "STATUS");
	must(poll(&(struct pollfd){ .fd = c.fd, .events = POLLIN }, 1, 2500) == 0, "ended with a client there");
	bt_quiet(&c);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	bt_bye(&c);
	must(waitpid(broker, &status, 0) == broker && status == 0, "end of an idle broker: 0x%x", status);
	clock_gettime(CLOCK_MONOTONIC, &end);
	must(end.tv_sec - begin.tv_sec <= 8, "it took %ld s", (long)(end.tv_sec - begin.tv_sec));
	must(access(bt_path("private/broker.sock"), F_OK), "the socket is still there");
}

int main(void)
{
	bt_open("start");
	setenv("NTBSOCK_CONFIG_DIR", bt_dir, 1);
	options();
	run_dirs();
	one_at_a_time();
	idle();
	puts("broker_start: passed");
	return 0;
}
