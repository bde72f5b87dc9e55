// SPDX-License-Identifier: BSD-2-Clause
/*
 * repro.c - a sequence as a C program that needs nothing of this one
 *
 * Each process and thread of the sequence becomes a function that waits for its turn, makes its calls and passes the turn on;
 * a call that blocks passes it on before.  The text of a call is that of calls.def.  A sequence in which a program starts anew is
 * for diff --replay alone.
 */
#include "diff.h"

#include <string.h>

/* prelude.h, as it is, into the program */
__asm__(".section .rodata\n.globl diff_prelude\ndiff_prelude:\n.incbin \"test/diff/prelude.h\"\n.byte 0\n.previous");
extern const char diff_prelude[];

/* %s %S %t %T %a %b %x %n %p, see calls.def */
static void put_text(FILE *f, const struct op *op, int step)
{
	for (const char *p = calls[op->call].text; *p; p++) {
		if (*p != '%') {
			fputc(*p, f);
			continue;
		}
		switch (*++p) {
		case 's': op->s < 0 ? fprintf(f, "-1") : fprintf(f, "fd[%d]", op->s); break;
		case 't': op->t < 0 ? fprintf(f, "-1") : fprintf(f, "fd[%d]", op->t); break;
		case 'S': fprintf(f, "%d", op->s < 0 ? SLOTS : op->s); break;
		case 'T': fprintf(f, "%d", op->t < 0 ? SLOTS : op->t); break;
		case 'a': fprintf(f, "%d", op->a); break;
		case 'b': fprintf(f, "%d", op->b); break;
		case 'x': fprintf(f, "0x%x", (unsigned)op->a); break;
		case 'n': fprintf(f, "%d", step); break;
		case 'p': fprintf(f, "%d", op->proc); break;
		default: fputc(*p, f); break;
		}
	}
}

/* get_option() and set_option() take a level and a name there. */
static void put_option(FILE *f, const struct op *op)
{
	const struct option_info *o = &options[op->a];
	const char *fd = op->s < 0 ? "-1" : "fd";
	char which[20];

	snprintf(which, sizeof(which), op->s < 0 ? "%s" : "%s[%d]", fd, op->s);
	if (op->call == C_getopt)
		fprintf(f, "r = get_option(%s, %s, %s);", which, o->level_name, o->name);
	else if (o->shape == LINGER)
		fprintf(f, "r = setsockopt(%s, %s, %s, &(struct linger){ %d, %d }, sizeof(struct linger));", which, o->level_name, o->name,
			op->b >= 0, op->b > 0 ? op->b : 0);
	else if (o->shape == TIMEVAL)
		fprintf(f, "r = setsockopt(%s, %s, %s, &(struct timeval){ %d, %d }, sizeof(struct timeval));", which, o->level_name, o->name,
			op->b / 1000, op->b % 1000 * 1000);
	else
		fprintf(f, "r = setsockopt(%s, %s, %s, &(int){ %d }, sizeof(int));", which, o->level_name, o->name, op->b);
}

static void put_step(FILE *f, const struct traced *t, int nr)
{
	const struct op *op = &t->op;

	if (op->call == C_kill || op->call == C_exit) {
		fprintf(f, "\tturn(%d); pass(%d); %s\n", nr, nr, calls[op->call].text);
		return;
	}
	fprintf(f, "\tturn(%d); ", nr);
	if (t->blocked)
		fprintf(f, "pass(%d); /* it blocks */ ", nr);
	if (op->call == C_interrupt)
		fprintf(f, "r = pthread_kill(thread[%d], %s);", op->b, op->t == 1 ? "SIGUSR2" : "SIGUSR1");
	else if (op->call == C_getopt || op->call == C_setopt)
		put_option(f, op);
	else
		put_text(f, op, t->step);
	fprintf(f, " show(%d, \"%s\", r);", nr, calls[op->call].name);
	if (!t->blocked)
		fprintf(f, " pass(%d);", nr);
	fputc('\n', f);
}

/* Signals come from the process itself. */
static int proc_of(const struct op *op)
{
	return op->call == C_interrupt ? op->a : op->proc;
}

static int thread_of(const struct op *op)
{
	return op->call == C_interrupt ? THREADS - 1 - (op->b == THREADS - 1) : op->thr;
}

void repro_print(FILE *f, const struct seq *s, const struct difference *d)
{
	if (d->step >= 0)
		fprintf(f, "/* step %d, %s: %s */\n", d->step, calls[d->call].name, d->what);
	for (int i = 0; i < nr_traced; i++)
		if (traced[i].op.call == C_exec || traced[i].op.call == C_spawn) {
			fprintf(f, "/* its image starts anew: no program, replay the sequence */\n");
			return;
		}
	fputs(diff_prelude, f);
	for (int p = 0; p < PROCS; p++)
		for (int t = THREADS - 1; t >= 0; t--) {
			fprintf(f, "\nstatic void *proc%d_thread%d(void *arg)\n{\n\tlong r = 0;\n\n", p, t);
			if (!t) {
				for (int o = 1; o < THREADS; o++)
					fprintf(f, "\tpthread_create(&thread[%d], NULL, proc%d_thread%d, NULL);\n", o, p, o);
				fprintf(f, "\tthread[0] = pthread_self();\n");
			}
			for (int i = 0; i < nr_traced; i++)
				if (proc_of(&traced[i].op) == p && thread_of(&traced[i].op) == t)
					put_step(f, &traced[i], i);
			if (!t)
				fprintf(f, "\tturn(%d);\n\tsleep(1);\n\t_exit(0);\n", nr_traced);
			fprintf(f, "\t(void)r;\n\treturn NULL;\n}\n");
		}
	fprintf(f, "\nint main(void)\n{\n\tprepare((void *(*[])(void *)){ proc0_thread0, proc1_thread0, proc2_thread0, proc3_thread0 });\n"
		"\tstart_process(1);\n\tproc0_thread0(NULL);\n}\n");
}
