/* What the helper program's files share. The program has no libc; headers of libc serve for types and constants only. */
#pragma once

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/openat2.h>
#include <linux/sched.h>

#include "memory.h"
#include "syscalls.h"
#include "plan.h"

#ifndef CLONE_INTO_CGROUP
#  define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLONE_NEWTIME
#  define CLONE_NEWTIME 0x00000080
#endif

#define SELF_PATH_MAX 4096

/* Where and why a step failed; `text` names the thing. */
struct failure
{
  int error;
  uint32_t step;
  uint32_t op;
  char text[200];
};

/* A request as received: the payload ends in a NUL that is not counted. */
struct message
{
  struct pyc_request head;
  const char *payload;
  usize payload_length;
  int fds[PYC_FDS_MAX];
  int fd_count;
  /* The descriptors that the flags name, -1 for none; they are no longer in `fds`. */
  int owner;
  int stdio[3];
};

/* A validated plan: every offset that the accessors below take is inside it, and its last byte is 0. */
struct plan
{
  const struct pyc_plan *head;
  const char *base;
  usize size;
};

/* What all containers of one launcher share; set once, before the first container. */
struct launcher
{
  int cgroups[PYC_CGROUPS_MAX];
  int cgroup_count;
  int program;
  /* /dev/null and, for binds in a user namespace, nothing else of the host's. */
  int null;
  bool rootless;
  bool keep_capabilities;
  uint64_t bounding;
};
extern struct launcher launcher;

/* text.c: small things. */
uint64_t text_parse (const char **at);
uint64_t now_ns (int clock);
/* Locks a whole file for its open file description (F_OFD_SETLK: readers can ask for it without taking it). 0 or -errno. */
long file_lock (int fd);
int fail (struct failure *f, uint32_t step, long error, const char *text);

/* message.c: SEQPACKET sockets. Each returns 0 or -errno. */
int message_receive (int sock, struct message *m, char *buffer, usize size);
void message_close (struct message *m);
int message_send (int sock, const void *data, usize length, int fd);
int reply_send (int sock, const struct pyc_reply *r, int fd);
int reply_failure (int sock, const struct failure *f);
/* An exec's answer: its pidfd, and its terminal's master if it has one (else -1). */
int exec_reply (int sock, const struct pyc_reply *r, int pidfd, int master);

/* plan.c: reading plans. */
int plan_check (struct plan *p, const char *base, usize size);
int plan_load (struct plan *p, int dir, const char *name, char *buffer, usize size);
const char *plan_text (const struct plan *p, uint32_t offset);
/* The next text of a list: "" ends it. */
const char *list_next (const char *item);

/* container.c: from a plan to a running process. */
struct start
{
  const struct plan *plan;
  int slots[PYC_FDS_MAX];
  int slot_count;
  int cgroups[PYC_CGROUPS_MAX];
  /* The cgroup to be born into (v2), else -1. */
  int unified;
  int overlay;
  int devpts;
  int master;
  int slave;
  int stdio[3];
  /* This process has its own mount namespace; and what is attached there once is there for every restart. */
  bool attached;
  bool prepared;
  int pidfd;
  int pid;
  /* A network namespace made beforehand, else -1. */
  int netns;
  struct failure failure;
};
void start_init (struct start *s, const struct plan *plan);
/* Makes what a container needs before its first process: cgroups, root, terminal. 0, or -1 with `failure` filled. */
int start_prepare (struct start *s);
/* One overlay op: `s->overlay` becomes the mount. 0, or -1 with `failure` filled. */
int start_overlay (struct start *s, const struct pyc_op *op);
/* Clones the first process and waits until it runs its command. 0, or -1 with `failure` filled. */
int start_launch (struct start *s);
/* Runs a process inside a running container; `s->pidfd` becomes the new process's. */
int start_exec (struct start *s, const struct pyc_process *process, int init_pidfd, uint64_t namespaces, int cgroup);
/* Undoes start_prepare, but for the overlay's descriptor, whose closing may wait for the disk. */
void start_release (struct start *s);
void cgroups_kill (const struct plan *plan);
void cgroups_remove (const struct plan *plan);
/* Leaves our own cgroups, and removes them if nobody else is there. */
void cgroups_leave (void);
/* A terminal of the given devpts mount: 0 or -errno. */
int terminal_open (int devpts, int rows, int columns, int *master, int *slave);
/* Brings the loopback link up in this network namespace; a socket there, or -errno. */
long loopback_up (void);

/* identity.c: who a process is, by the container's own /etc/passwd and /etc/group. */
#define GROUPS_MAX 256
struct identity
{
  uint32_t uid;
  uint32_t gid;
  uint32_t groups[GROUPS_MAX];
  int group_count;
  char home[256];
};
/* Resolves `USER[:GROUP]` and further groups against the current root. 0 or -errno (-ESRCH: no such user or group). */
int identity_resolve (struct identity *id, const char *user, const char *groups);

/* supervisor.c */
/* Never returns: the life of one container, from the request that starts it. */
_Noreturn void supervise (int conn, struct message *m, int netns);
/* launcher.c: whether the launcher's socket is gone; the name that process lists show. */
bool launcher_gone (void);
void title_set (const char *name, const char *what);

/* init.c: process 1 of a container that asks for one. */
_Noreturn void init_main (char **argv, char **env);

/* doctor.c: what this kernel allows, for the diagnosis. */
_Noreturn void doctor_main (const char *directory);

/* job.c: work on the store's trees, in a process of its own. */
_Noreturn void job_main (int conn, struct message *m);

/* clone3 that runs `fn (arg)` in the child, on the given stack. */
long clone_call (struct clone_args *args, int (*fn) (void *), void *arg);
_Noreturn void leave (int code);
