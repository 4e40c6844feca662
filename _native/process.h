/* A container's processes on their way from clone to execve. */
#pragma once

#include "mounts.h"

#define STACK_SIZE 65536
#define ARGS_MAX 16384
#define ENV_MAX 16384

/* What a launch works in, the child on its stack and with its parent's memory, while the parent waits. It is of no use
   between launches: an idle process gives its pages back. */
struct scratch
{
  char stack[STACK_SIZE];
  const char *arguments[ARGS_MAX];
  const char *environment[ENV_MAX];
  char home[264];
  char found[SELF_PATH_MAX];
  struct identity identity;
};
extern struct scratch scratch;
/* Gives the pages back; what is in `scratch` is lost. */
void scratch_shed (void);

/* What the child works with; the parent reads `start->failure` after it. */
struct child
{
  struct start *start;
  const struct pyc_process *process;
  int root;
  int dev;
  int proc;
  int mask;
  /* An exec enters these of the container's namespaces. */
  int init_pidfd;
  uint64_t namespaces;
  uint64_t plan_flags;
  /* Where a child that shares no memory tells of its failure; moved to 4. */
  int report;
  /* The filter is installed already. */
  bool confined;
};

const struct pyc_op *ops_begin (const struct plan *p);
/* Writes a text into a file below `dir`. 0 or -errno. */
long file_write (int dir, const char *name, const char *value);
void slot_path (char *to, int slot);
/* Notes a failure where the parent finds it; returns -1. */
int child_fail (struct child *c, uint32_t step, long error, const char *text);
int cgroup_join (struct child *c, const struct pyc_op *op);
/* Carries out one op of the child's half. 0, or -1 after child_fail. */
int child_op (struct child *c, const struct pyc_op *op);
/* Makes the container's root the root, and lets go of the old one. 0, or -1 after child_fail. */
int pivot (struct child *c);
/* The last part of every start, in the container's root already; returns (-1) only if it failed. */
int become (struct child *c, const struct pyc_process *p);
/* Kills all that descends from this process, a subreaper; `proc` is /proc. */
void reaper_kill (int proc);
/* Judges a clone: a child that failed reported in `s->failure` and is reaped. 0 or -1. */
int launched (struct start *s, long pid, int pidfd);
