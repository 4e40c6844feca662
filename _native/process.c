/* What a process becomes, of a container or of an exec: stdio, user, capabilities, filter, command. */
#include "process.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Moves stdio to 0, 1, 2 and closes all else: nothing may be open when a path of the image's is walked, for
   /proc/self/fd would lead out. Keeps `program` as 3 if it is given. */
static int
stdio_place (struct child *c, bool program)
{
  struct start *s = c->start;
  long high[4];
  long e = 0;

  sys (setsid);
  for (int i = 0; i < 4; i++)
    {
      int fd = i == 3 ? launcher.program : s->slave >= 0 ? s->slave : s->stdio[i] >= 0 ? s->stdio[i] : launcher.null;
      high[i] = i == 3 && !program ? 0 : sys (fcntl, fd, F_DUPFD, 64);
      if (high[i] < 0)
        return child_fail (c, PYC_STEP_STDIO, high[i], "stdio");
    }
  for (int i = 0; i < 4 && e >= 0; i++)
    if (i < 3 || program)
      e = sys (dup3, high[i], i, i == 3 ? O_CLOEXEC : 0);
  if (e >= 0 && c->report > 0)
    {
      sys (dup3, c->report, 4, O_CLOEXEC);
      c->report = 4;
      if (!program)
        sys (close, 3);
    }
  if (e >= 0)
    e = sys (close_range, c->report > 0 ? 5 : program ? 4 : 3, ~0u, 0);
  if (e == 0 && s->slave >= 0)
    e = sys (ioctl, 0, TIOCSCTTY, 0);
  return e < 0 ? child_fail (c, PYC_STEP_STDIO, e, "stdio") : 0;
}

/* The user may open its streams again by name. Those that have a name on the host, such as the caller's terminal, stay
   whose they are: only the container's own terminal and nameless pipes are given. */
static void
stdio_own (const struct start *s, const struct identity *id)
{
  struct statfs fs;
  if (id->uid == 0)
    return;
  for (int i = 0; i < 3; i++)
    if (s->slave >= 0 || (sys (fstatfs, i, &fs) == 0 && fs.f_type == 0x50495045 /* PIPEFS_MAGIC */))
      sys (fchown, i, id->uid, (uint32_t)-1);
}

static int
filter_install (struct child *c, const struct pyc_process *p)
{
  struct sock_fprog program
      = { (unsigned short)(p->filter_length / 8), (struct sock_filter *)(c->start->plan->base + p->filter) };
  long e;
  if (!p->filter_length)
    return 0;
  e = sys (seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
  return e ? child_fail (c, PYC_STEP_SECCOMP, e, "seccomp") : 0;
}

static int
capabilities_set (struct child *c, uint64_t set)
{
  struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
  struct __user_cap_data_struct data[2]
      = { { (uint32_t)set, (uint32_t)set, 0 }, { (uint32_t)(set >> 32), (uint32_t)(set >> 32), 0 } };
  long e = sys (capset, &head, data);
  return e ? child_fail (c, PYC_STEP_CAPABILITIES, e, "capset") : 0;
}

static int
bounding_drop (struct child *c, uint64_t keep)
{
  for (int i = 0; i < 64; i++)
    if ((launcher.bounding & ~keep) >> i & 1)
      {
        long e = sys (prctl, PR_CAPBSET_DROP, i, 0, 0, 0);
        if (e && e != -EINVAL)
          return child_fail (c, PYC_STEP_CAPABILITIES, e, "bounding set");
      }
  return 0;
}

static int
identity_set (struct child *c, const struct identity *id)
{
  long e = 0;
  if (!(c->plan_flags & PYC_PLAN_NO_SETGROUPS))
    e = sys (setgroups, id->group_count, id->groups);
  if (e == 0)
    e = sys (setresgid, id->gid, id->gid, id->gid);
  if (e == 0)
    e = sys (setresuid, id->uid, id->uid, id->uid);
  /* Where fs.suid_dumpable is 1 a change of user makes a process traceable again. */
  if (e == 0)
    e = sys (prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
  return e ? child_fail (c, PYC_STEP_USER, e, plan_text (c->start->plan, c->process->user)) : 0;
}

static int
workdir_enter (struct child *c, const char *path, bool last)
{
  char where[SELF_PATH_MAX];
  long e = sys (chdir, *path ? path : "/");
  if (e == -EACCES && !last)
    return 0;
  if (e == 0)
    {
      e = sys (getcwd, where, sizeof where);
      /* getcwd(2): a directory outside the root does not begin with a slash. */
      e = e > 0 && where[0] == '/' ? 0 : e < 0 ? e : -EXDEV;
    }
  return e ? child_fail (c, PYC_STEP_WORKDIR, e, path) : 0;
}

/* Finds the command as execvp(3) would: in the directories of the container's PATH. */
static long
command_find (const char *name, const char *path, char *to, usize size)
{
  long e = -ENOENT;
  for (const char *p = name; *p; p++)
    if (*p == '/')
      {
        text_copy (to, size, name);
        return 0;
      }
  if (!*name)
    return -ENOENT;
  for (;;)
    {
      usize n = 0;
      while (*path && *path != ':' && n + 2 < size)
        to[n++] = *path++;
      if (n == 0)
        to[n++] = '.';
      to[n++] = '/';
      if (n + strlen (name) + 1 < size)
        {
          struct stat st;
          text_copy (to + n, size - n, name);
          if (sys (newfstatat, AT_FDCWD, to, &st, 0) == 0 && !S_ISDIR (st.st_mode))
            {
              if (sys (faccessat, AT_FDCWD, to, 1 /* X_OK */) == 0)
                return 0;
              e = -EACCES;
            }
        }
      while (*path && *path != ':')
        path++;
      if (!*path++)
        return e;
    }
}

static long
list_fill (const char **to, int from, int max, const char *item)
{
  for (; *item; item = list_next (item))
    {
      if (from >= max - 1)
        return -E2BIG;
      to[from++] = item;
    }
  to[from] = 0;
  return 0;
}

/* Arguments may be empty texts, so each stands behind a letter in its list. */
static long
arguments_fill (const char *item)
{
  int n = 3;
  for (; *item; item = list_next (item))
    {
      if (n >= ARGS_MAX - 1)
        return -E2BIG;
      scratch.arguments[n++] = item + 1;
    }
  scratch.arguments[n] = 0;
  return n > 3 ? 0 : -ENOENT;
}

static int
command_execute (struct child *c, int program)
{
  const struct plan *p = c->start->plan;
  const char **argv = scratch.arguments + 3;
  long e = arguments_fill (plan_text (p, c->process->argv));
  scratch.environment[0] = scratch.home;
  if (e == 0)
    e = list_fill (scratch.environment, c->process->home ? 0 : 1, ENV_MAX, plan_text (p, c->process->env));
  if (e == 0)
    e = command_find (argv[0], plan_text (p, c->process->path), scratch.found, sizeof scratch.found);
  if (e == 0 && program >= 0)
    {
      scratch.arguments[1] = "pycontainers-init";
      scratch.arguments[2] = scratch.found;
      e = sys (faccessat, AT_FDCWD, scratch.found, 1);
      if (e == 0)
        e = sys (execveat, program, "", scratch.arguments + 1, scratch.environment, AT_EMPTY_PATH);
    }
  else if (e == 0)
    e = sys (execve, scratch.found, argv, scratch.environment);
  return child_fail (c, PYC_STEP_EXEC, e, argv[0] ? argv[0] : "");
}

int
become (struct child *c, const struct pyc_process *p)
{
  const struct plan *plan = c->start->plan;
  struct sigaction_kernel
  {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
  } plain = { 0 };
  uint64_t none = 0;
  bool init = (p->flags & PYC_PLAN_INIT) != 0;
  long e;

  if (stdio_place (c, init))
    return -1;
  e = identity_resolve (&scratch.identity, plan_text (plan, p->user), plan_text (plan, p->groups));
  if (e)
    return child_fail (c, PYC_STEP_USER, e, plan_text (plan, p->user));
  memcpy (scratch.home, "HOME=", 6);
  text_copy (scratch.home + 5, sizeof scratch.home - 5, scratch.identity.home);
  stdio_own (c->start, &scratch.identity);
  if (workdir_enter (c, plan_text (plan, p->workdir), false))
    return -1;
  if (p->flags & PYC_PLAN_NO_NEW_PRIVS)
    sys (prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  else if (!c->confined && filter_install (c, p))
    return -1;
  if (bounding_drop (c, p->bounding) || identity_set (c, &scratch.identity)
      || capabilities_set (c, scratch.identity.uid ? 0 : p->capabilities))
    return -1;
  if (p->flags & PYC_PLAN_NO_NEW_PRIVS && !c->confined && filter_install (c, p))
    return -1;
  if (workdir_enter (c, plan_text (plan, p->workdir), true))
    return -1;
  sys (rt_sigaction, SIGPIPE, &plain, 0, 8);
  sys (rt_sigaction, SIGCHLD, &plain, 0, 8);
  /* Our init takes its signals by waiting for them: none may come before it does. */
  none = init ? ~0ull : 0;
  sys (rt_sigprocmask, 2 /* SIG_SETMASK */, &none, 0, 8);
  sys (umask, 022);
  return command_execute (c, init ? 3 : -1);
}

/* The root that setns(2) gave must be the container's own. */
static long
root_is (int root)
{
  struct stat mine, theirs;
  long e = sys (newfstatat, AT_FDCWD, "/", &mine, 0);
  if (e == 0)
    e = sys (newfstatat, root, "", &theirs, AT_EMPTY_PATH);
  return e ? e : mine.st_dev == theirs.st_dev && mine.st_ino == theirs.st_ino ? 0 : -EXDEV;
}

static int
exec_enter (struct child *c)
{
  const struct pyc_op *op = ops_begin (c->start->plan);
  const struct pyc_op *end = op + c->start->plan->head->op_count;
  long e;

  for (; op < end; op++)
    if (op->code == PYC_OP_CGROUP_JOIN && cgroup_join (c, op))
      return -1;
  e = sys (setns, c->init_pidfd, c->namespaces);
  if (e == 0)
    e = root_is (c->root);
  return e ? child_fail (c, PYC_STEP_NAMESPACE, e, "setns") : 0;
}

static int
exec_main (void *arg)
{
  struct child *c = arg;
  if (exec_enter (c) == 0)
    become (c, c->process);
  return 127;
}

/* -- an exec that shares no memory ----------------------------------------------------------------------------------- */

/* What the supervisor sends an exec's reaper to have the whole tree killed; all other signals go to the command. */
#define REAPER_KILL 64

/* Parent of process `pid` by its stat file: the field after the name's last parenthesis and the state. */
static int
parent_of (int proc, const char *pid)
{
  char buffer[512];
  char path[40];
  const char *at = 0;
  usize n = text_copy (path, 24, pid);
  long fd, got;

  text_copy (path + n, sizeof path - n, "/stat");
  fd = sys (openat, proc, path, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0)
    return -1;
  got = sys (read, fd, buffer, sizeof buffer - 1);
  sys (close, fd);
  buffer[got > 0 ? got : 0] = 0;
  for (const char *b = buffer; *b; b++)
    if (*b == ')')
      at = b;
  if (!at || !at[1] || !at[2])
    return -1;
  at += 4;
  return (int)text_parse (&at);
}

struct entry
{
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[];
};

static bool
descends (int proc, int pid, int root)
{
  for (int depth = 0; pid > 1 && depth < 256; depth++)
    {
      char name[24];
      text_number (name, (uint64_t)pid);
      pid = parent_of (proc, name);
      if (pid == root)
        return true;
    }
  return false;
}

/* Kills all that descends from this process until nothing is left: orphans come back to it, for it is a subreaper. */
void
reaper_kill (int proc)
{
  static char buffer[8192] __attribute__ ((aligned (8)));
  int self = (int)sys (getpid);
  for (;;)
    {
      long n;
      sys (lseek, proc, 0, 0);
      while ((n = sys (getdents64, proc, buffer, sizeof buffer)) > 0)
        for (char *at = buffer; at < buffer + n; at += ((struct entry *)at)->length)
          {
            const char *name = ((struct entry *)at)->name;
            const char *end = name;
            int pid = (int)text_parse (&end);
            if (end != name && !*end && pid != self && descends (proc, pid, self))
              sys (kill, pid, SIGKILL);
          }
      long r;
      while ((r = sys (wait4, -1, 0, 1 /* WNOHANG */, 0)) > 0)
        ;
      if (r == -ECHILD)
        return;
      struct timespec pause = { 0, 1000000 };
      sys (nanosleep, &pause, 0);
    }
}

/* The first process of an exec's tree: passes signals on, waits for the command, or is told to kill the whole tree. */
static _Noreturn void
reaper_wait (long command, int proc)
{
  uint64_t all = ~0ull;
  for (;;)
    {
      int status = 0;
      long r;
      long number = sys (rt_sigtimedwait, &all, 0, 0, 8);
      if (number == REAPER_KILL)
        {
          reaper_kill (proc);
          leave (137);
        }
      if (number > 0 && number != SIGCHLD)
        sys (kill, command, number);
      while ((r = sys (wait4, -1, &status, 1 /* WNOHANG */, 0)) > 0)
        if (r == command)
          leave ((status & 0x7f) ? 128 + (status & 0x7f) : status >> 8 & 0xff);
    }
}

/* Runs in a process that shares no memory; `report` is closed by the command's execve, or tells of a failure. */
static _Noreturn void
exec_apart (struct child *c, bool reaper)
{
  const struct pyc_process *p = c->process;
  uint64_t all = ~0ull;
  long proc, pid;

  if ((c->confined || exec_enter (c) == 0) && !reaper)
    become (c, p);
  if (!c->start->failure.error && reaper)
    {
      proc = sys (openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
      sys (prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
      sys (rt_sigprocmask, 2, &all, 0, 8);
      /* clone, not clone3, which the container's filter may answer with ENOSYS. */
      pid = sys (clone, SIGCHLD, 0, 0, 0, 0);
      if (pid == 0)
        {
          become (c, p);
          sys (write, c->report, &c->start->failure, sizeof c->start->failure);
          leave (127);
        }
      sys (dup3, proc, 3, O_CLOEXEC);
      for (int i = 0; i < 3; i++)
        sys (close, i);
      sys (close_range, 4, ~0u, 0);
      /* It lives among the container's processes, with no more than they have; killing them is what it is for. */
      bounding_drop (c, p->bounding);
      capabilities_set (c, p->capabilities | 1ull << CAP_KILL);
      reaper_wait (pid, 3);
    }
  sys (write, c->report, &c->start->failure, sizeof c->start->failure);
  leave (127);
}

/* Closes all descriptors but standard streams and those that an exec still needs. */
static void
descriptors_close (struct child *c)
{
  const struct start *s = c->start;
  int keep[] = { s->slave, s->stdio[0], s->stdio[1], s->stdio[2], launcher.null, c->report };
  unsigned from = 3;
  for (;;)
    {
      unsigned next = ~0u;
      for (usize i = 0; i < sizeof keep / sizeof *keep; i++)
        if (keep[i] >= (int)from && (unsigned)keep[i] < next)
          next = (unsigned)keep[i];
      if (next > from)
        sys (close_range, from, next == ~0u ? next : next - 1, 0);
      if (next == ~0u)
        return;
      from = next + 1;
    }
}

/* Where the container may trace, what it can see of an exec must be worth no more than the container itself: this
   process, which it can't see, enters all else first, lets go of the descriptors and takes filter and capabilities; its
   child (the supervisor's, by CLONE_PARENT) is then born among the container's processes. What the change of user needs
   is kept till then. */
static _Noreturn void
exec_hidden (struct child *c, bool reaper)
{
  const struct pyc_process *p = c->process;
  uint64_t change = 1ull << CAP_SETUID | 1ull << CAP_SETGID | 1ull << CAP_SETPCAP;
  struct failure born = { 0 };

  c->namespaces |= CLONE_NEWPID;
  if (exec_enter (c) == 0)
    {
      descriptors_close (c);
      if (p->flags & PYC_PLAN_NO_NEW_PRIVS)
        sys (prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      c->confined = true;
      if (!filter_install (c, p) && !bounding_drop (c, p->bounding)
          && !capabilities_set (c, p->capabilities | change | (reaper ? 1ull << CAP_KILL : 0)))
        {
          long pid = sys (clone, CLONE_PARENT, 0, 0, 0, 0);
          if (pid == 0)
            exec_apart (c, reaper);
          if (pid < 0)
            child_fail (c, PYC_STEP_CLONE, pid, "clone");
          born.op = (uint32_t)pid;
        }
    }
  /* No error, and a pid, tells who was born; the child's own word may come before or after. */
  sys (write, c->report, c->start->failure.error ? &c->start->failure : &born, sizeof born);
  leave (127);
}

/* Reads what the hidden one and its child tell, until both are done: the child takes its parent's place in `pidfd`. */
static long
hidden_born (int from, struct failure *failure, long pid, int *pidfd)
{
  siginfo_t info;
  struct failure told;
  long born = -1;
  long n;
  while ((n = sys (read, from, &told, sizeof told)) == sizeof told || n == -EINTR)
    {
      if (n > 0 && told.error)
        *failure = told;
      else if (n > 0)
        born = told.op;
    }
  if (born < 0)
    return pid;
  sys (waitid, 3 /* P_PIDFD */, *pidfd, &info, 4 /* WEXITED */, 0);
  sys (close, *pidfd);
  *pidfd = (int)sys (pidfd_open, born, 0);
  return born;
}

/* `report` stands high, out of the way of stdio. */
static long
clone_apart (struct clone_args *args, struct child *c, bool reaper, bool hidden)
{
  int ends[2];
  long n;
  long pid = sys (pipe2, ends, O_CLOEXEC);
  if (pid < 0)
    return pid;
  args->flags &= ~(uint64_t)(CLONE_VM | CLONE_VFORK);
  args->stack = args->stack_size = 0;
  pid = sys (clone3, args, sizeof *args);
  if (pid == 0)
    {
      c->report = (int)sys (fcntl, ends[1], F_DUPFD_CLOEXEC, 64);
      sys (close, ends[1]);
      if (hidden)
        exec_hidden (c, reaper);
      exec_apart (c, reaper);
    }
  sys (close, ends[1]);
  if (pid > 0 && hidden)
    pid = hidden_born (ends[0], &c->start->failure, pid, (int *)(uintptr_t)args->pidfd);
  else if (pid > 0)
    {
      do
        n = sys (read, ends[0], &c->start->failure, sizeof c->start->failure);
      while (n == -EINTR);
      if (n != sizeof c->start->failure)
        c->start->failure.error = 0;
    }
  sys (close, ends[0]);
  return pid;
}

int
start_exec (struct start *s, const struct pyc_process *process, int init_pidfd, uint64_t namespaces, int cgroup)
{
  struct child c = { .start = s,
                     .process = process,
                     .root = s->overlay,
                     .init_pidfd = init_pidfd,
                     .namespaces = namespaces,
                     .plan_flags = s->plan->head->flags };
  int pidfd = -1;
  bool enters = !(s->plan->head->flags & PYC_PLAN_HOST_PID);
  /* Who may trace inside the container must not reach this process's memory through a child that shares it. */
  bool traceable = (s->plan->head->flags & PYC_PLAN_TRACEABLE) != 0;
  bool shared = !traceable && cgroup >= 0;
  bool hidden = traceable && enters;
  struct clone_args args = {
    .flags = CLONE_PIDFD | CLONE_VFORK | CLONE_VM,
    .pidfd = (uint64_t)(uintptr_t)&pidfd,
    .exit_signal = SIGCHLD,
    .stack = (uint64_t)(uintptr_t)scratch.stack,
    .stack_size = sizeof scratch.stack,
  };
  long self, e, pid;

  s->failure.error = 0;
  if (cgroup >= 0)
    {
      args.flags |= CLONE_INTO_CGROUP;
      args.cgroup = (uint64_t)cgroup;
    }
  enters = enters && !hidden;
  pid = sys (getpid);
  self = sys (pidfd_open, pid, 0);
  e = enters ? sys (setns, init_pidfd, CLONE_NEWPID) : 0;
  if (e)
    {
      sys (close, self);
      return fail (&s->failure, PYC_STEP_NAMESPACE, e, "pid namespace");
    }
  pid = shared ? clone_call (&args, exec_main, &c) : clone_apart (&args, &c, cgroup < 0, hidden);
  if (enters)
    sys (setns, self, CLONE_NEWPID);
  sys (close, self);
  return launched (s, pid, pidfd);
}
