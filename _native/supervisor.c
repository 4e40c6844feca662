/* The supervisor of one container: it holds the streams, writes log and record, answers clients, restarts, cleans up. */
#include "archive.h"
#include "process.h"
#include "supervisor.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <linux/fs.h>
#include <linux/prctl.h>

struct supervisor sv;

static char message_buffer[PYC_MESSAGE_MAX] __attribute__ ((aligned (8)));

/* -- the record and the event lines -------------------------------------------------------------------------------- */

/* The first write takes the record's room on the disk; those after it need no more. 0 or -errno. */
static long
record_store (void)
{
  long n;
  sv.record.sequence++;
  n = sys (pwrite64, sv.state_fd, &sv.record, sizeof sv.record, 0);
  return n == sizeof sv.record ? 0 : n < 0 ? n : -ENOSPC;
}

void
record_write (void)
{
  record_store ();
  watchers_wake ();
}

/* A line of the store's event log: time, action, id, one number if it has a name, and what Python said of the container. */
void
event_write (const char *action, const char *name, int number)
{
  char line[2048];
  usize n = text_number (line, now_ns (0));
  long fd;

  n += text_copy (line + n, sizeof line - n, "\tcontainer\t");
  n += text_copy (line + n, sizeof line - n, action);
  n += text_copy (line + n, sizeof line - n, "\t");
  n += text_copy (line + n, sizeof line - n, sv.id);
  if (name)
    {
      n += text_copy (line + n, sizeof line - n, "\t");
      n += text_copy (line + n, sizeof line - n, name);
      n += text_copy (line + n, sizeof line - n, "=");
      n += text_number (line + n, (uint64_t)number);
    }
  if (sv.plan.head->event)
    {
      n += text_copy (line + n, sizeof line - n - 2, "\t");
      n += text_copy (line + n, sizeof line - n - 2, plan_text (&sv.plan, sv.plan.head->event));
    }
  line[n++] = '\n';
  fd = sys (openat, AT_FDCWD, "events", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return;
  sys (write, fd, line, n);
  sys (close, fd);
}

/* -- the plan ---------------------------------------------------------------------------------------------------------- */

static int
plan_map (struct plan *p)
{
  struct stat st;
  long fd = sys (openat, sv.directory, "plan", O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  long at;
  if (fd < 0)
    return (int)fd;
  at = sys (newfstatat, fd, "", &st, AT_EMPTY_PATH);
  if (at == 0 && (st.st_size < (long)sizeof (struct pyc_plan) || st.st_size > PYC_PLAN_MAX))
    at = -EBADMSG;
  if (at == 0)
    at = sys (mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  sys (close, fd);
  if (at < 0 && at > -4096)
    return (int)at;
  return plan_check (p, (const char *)at, (usize)st.st_size);
}

void
plan_reload (void)
{
  struct plan fresh;
  if (plan_map (&fresh))
    return;
  sv.plan = fresh;
}

/* -- starting and ending ------------------------------------------------------------------------------------------- */

static int
pipe_make (int index, enum source source)
{
  int ends[2];
  long e = sys (pipe2, ends, O_CLOEXEC);
  if (e)
    return fail (&sv.start.failure, PYC_STEP_STDIO, e, "pipe");
  if (index == 0)
    {
      sv.start.stdio[0] = ends[0];
      sv.stdin_fd = ends[1];
      return 0;
    }
  sv.start.stdio[index] = ends[1];
  sys (fcntl, ends[0], F_SETFL, O_NONBLOCK);
  sv.output[index - 1] = ends[0];
  watch_fd (ends[0], source, index - 1, EPOLLIN);
  return 0;
}

static int
streams_make (void)
{
  uint32_t flags = sv.plan.head->flags;
  if (flags & PYC_PLAN_TTY)
    {
      long e = terminal_open (sv.start.devpts, (int)sv.rows, (int)sv.columns, &sv.start.master, &sv.start.slave);
      if (e)
        return fail (&sv.start.failure, PYC_STEP_TERMINAL, e, "ptmx");
      sys (fcntl, sv.start.master, F_SETFL, O_RDWR | O_NONBLOCK);
      sv.output[0] = sv.start.master;
      watch_fd (sv.start.master, SOURCE_OUTPUT, 0, EPOLLIN);
      return 0;
    }
  if (sv.caller_stdin >= 0)
    {
      sv.start.stdio[0] = sv.caller_stdin;
      sv.caller_stdin = -1;
    }
  else if (flags & PYC_PLAN_STDIN_OPEN && pipe_make (0, SOURCE_OUTPUT))
    return -1;
  return pipe_make (1, SOURCE_OUTPUT) || pipe_make (2, SOURCE_OUTPUT) ? -1 : 0;
}

/* What the child got is the child's alone: our copies would keep its streams from ending. */
static void
streams_handed (void)
{
  for (int i = 0; i < 3; i++)
    if (sv.start.stdio[i] >= 0)
      {
        sys (close, sv.start.stdio[i]);
        sv.start.stdio[i] = -1;
      }
  if (sv.start.slave >= 0)
    sys (close, sv.start.slave);
  sv.start.slave = -1;
}

static void
started (void)
{
  sv.record.status = PYC_STATUS_RUNNING;
  sv.record.started = now_ns (0);
  sv.record.finished = 0;
  sv.record.exit_code = 0;
  sv.record.error = 0;
  sv.record.error_step = 0;
  sv.record.text[0] = 0;
  sv.record.flags = 0;
  sv.started_mono = now_ns (1);
  sv.paused = false;
  health_begin ();
  record_write ();
  event_write ("start", 0, 0);
}

int
container_start (void)
{
  int e = start_prepare (&sv.start);
  sv.scratch_used = true;
  if (e == 0)
    e = streams_make ();
  if (e == 0)
    e = start_launch (&sv.start);
  streams_handed ();
  if (e == 0)
    {
      watch_fd (sv.start.pidfd, SOURCE_CHILD, 0, EPOLLIN);
      started ();
    }
  return e;
}

/* -- a container in the host's pid namespace: no namespace's end kills it ---------------------------------------------- */

static int orphan_fd = -1;

void
orphans_adopt (void)
{
  uint64_t child = 1ull << (SIGCHLD - 1);
  sys (prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  sys (rt_sigprocmask, 0 /* SIG_BLOCK */, &child, 0, 8);
  orphan_fd = (int)sys (signalfd4, -1, &child, 8, O_CLOEXEC | O_NONBLOCK);
  if (orphan_fd >= 0)
    watch_fd (orphan_fd, SOURCE_ORPHAN, 0, EPOLLIN);
}

/* Reaps what nobody else will: the first process and those of execs are waited for by name. */
void
orphans_reap (void)
{
  char told[128];
  while (sys (read, orphan_fd, told, sizeof told) > 0)
    ;
  for (;;)
    {
      siginfo_t info = { 0 };
      long e = sys (waitid, 0 /* P_ALL */, 0, &info, 4 | 1 | 0x01000000 /* WEXITED, WNOHANG, WNOWAIT */, 0);
      if (e || !info.si_pid || info.si_pid == sv.start.pid || exec_is (info.si_pid))
        return;
      sys (wait4, info.si_pid, 0, 0, 0);
    }
}

void
orphans_kill (void)
{
  long proc;
  if (!(sv.plan.head->flags & PYC_PLAN_HOST_PID))
    return;
  proc = sys (openat, AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (proc < 0)
    return;
  reaper_kill ((int)proc);
  sys (close, proc);
}

static void
stream_close (int *fd)
{
  if (*fd >= 0)
    sys (close, *fd);
  *fd = -1;
}

static void
streams_close (void)
{
  stream_close (&sv.stdin_fd);
  if (sv.output[0] == sv.start.master)
    sv.output[0] = -1;
  stream_close (&sv.output[0]);
  stream_close (&sv.output[1]);
}

/* A failed start: nothing of it stays but the record's word. */
static void
start_failed (void)
{
  struct failure *f = &sv.start.failure;
  int code = f->step != PYC_STEP_EXEC && f->step != PYC_STEP_WORKDIR ? 125
             : f->error == ENOENT || f->error == ENOTDIR             ? 127
                                                                     : 126;
  sv.record.status = sv.record.exits || sv.record.started ? PYC_STATUS_EXITED : PYC_STATUS_CREATED;
  sv.record.exit_code = code;
  sv.record.error = f->error;
  sv.record.error_step = f->step;
  sv.record.exits++;
  text_copy (sv.record.text, sizeof sv.record.text, f->text);
}

/* memory.oom_control (v1) and memory.events (v2) both count in a line "oom_kill N". */
static bool
oom_killed (void)
{
  static const char *const FILES[] = { "memory.oom_control", "memory.events" };
  char text[1024];
  for (int i = 0; i < PYC_CGROUPS_MAX; i++)
    for (int j = 0; j < 2 && sv.start.cgroups[i] >= 0; j++)
      {
        long fd = sys (openat, sv.start.cgroups[i], FILES[j], O_RDONLY | O_CLOEXEC, 0);
        long n = fd < 0 ? fd : sys (read, fd, text, sizeof text - 1);
        if (fd >= 0)
          sys (close, fd);
        text[n > 0 ? n : 0] = 0;
        for (const char *at = text; *at; at++)
          if ((at == text || at[-1] == '\n') && text_starts (at, "oom_kill "))
            return at[9] != '0';
      }
  return false;
}

static uint64_t
restart_delay (void)
{
  uint64_t delay = 100000000;
  /* Docker doubles from 100 ms to a minute, and begins anew once a container ran for ten seconds. */
  if (now_ns (1) - sv.started_mono > 10000000000ull)
    sv.restarts_in_row = 0;
  for (uint32_t i = 0; i < sv.restarts_in_row && delay < 60000000000ull; i++)
    delay *= 2;
  return delay < 60000000000ull ? delay : 60000000000ull;
}

static bool
restarts (int code)
{
  const struct pyc_plan *h = sv.plan.head;
  if (sv.record.flags & PYC_RECORD_STOPPED || sv.destroy || sv.owner_gone)
    return false;
  if (h->restart == PYC_RESTART_ALWAYS || h->restart == PYC_RESTART_UNLESS_STOPPED)
    return true;
  return h->restart == PYC_RESTART_ON_FAILURE && code && (!h->restart_limit || sv.record.restart_count < h->restart_limit);
}

/* The first process ended: what it wrote is drained, how it ended is told; then it is started again, or all ends. */
void
container_ended (void)
{
  siginfo_t info = { 0 };
  int code;

  if (sys (waitid, 3 /* P_PIDFD */, sv.start.pidfd, &info, 4 /* WEXITED */, 0))
    return;
  code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  if (sv.plan.head->flags & PYC_PLAN_HOST_PID)
    cgroups_kill (&sv.plan);
  execs_end ();
  orphans_kill ();
  output_drain ();
  if (sv.record.flags & PYC_RECORD_OOM || ((code == 137 || sv.has_memory_limit) && oom_killed ()))
    {
      sv.record.flags |= PYC_RECORD_OOM;
      event_write ("oom", 0, 0);
    }
  sv.record.exit_code = code;
  sv.record.finished = now_ns (0);
  sv.record.exits++;
  sv.stop_at = sv.kill_at = 0;
  health_end ();
  event_write ("die", "exitCode", code);
  if (sv.stopping && !sv.destroy)
    event_write ("stop", 0, 0);
  streams_close ();
  start_release (&sv.start);
  if (!restarts (code))
    {
      sv.record.status = PYC_STATUS_EXITED;
      sv.over = true;
      return;
    }
  sv.record.status = PYC_STATUS_RESTARTING;
  sv.restart_at = now_ns (1) + restart_delay ();
  sv.restarts_in_row++;
  record_write ();
}

void
container_restart (void)
{
  sv.restart_at = 0;
  sv.record.restart_count++;
  if (sv.start.overlay >= 0)
    sys (close, sv.start.overlay);
  sv.start.overlay = -1;
  if (container_start ())
    {
      streams_close ();
      start_release (&sv.start);
      start_failed ();
      sv.record.status = PYC_STATUS_EXITED;
      sv.over = true;
    }
}

/* The directory goes in one rename, so that the container is there or gone; what it held is deleted after the answer. */
static bool
trash (char *to)
{
  memcpy (to, "trash/", 7);
  text_copy (to + 6, 80, sv.id);
  return sys (renameat2, AT_FDCWD, sv.path, AT_FDCWD, to, 0) == 0;
}

/* Tells, then tidies: what waits for the disk waits after the answer. */
static _Noreturn void
finish (void)
{
  char where[96];
  struct archive_error ignored;
  bool remove = sv.plan.head->flags & PYC_PLAN_AUTO_REMOVE || sv.destroy || sv.owner_gone;
  bool gone = remove && trash (where);

  if (gone)
    {
      /* Nobody reads the record of what is gone: it is told, and not written. */
      sv.record.status = PYC_STATUS_REMOVED;
      sv.record.sequence++;
      watchers_wake ();
    }
  else
    {
      sys (unlinkat, sv.directory, "ctl.sock", 0);
      record_write ();
    }
  sys (close, sv.listener);
  clients_finish ();
  if (gone)
    event_write ("destroy", 0, 0);
  cgroups_remove (&sv.plan);
  if (sv.start.overlay >= 0)
    sys (close, sv.start.overlay);
  sys (close, sv.state_fd);
  if (gone)
    tree_remove (AT_FDCWD, where, &ignored);
  if (launcher_gone ())
    cgroups_leave ();
  leave (0);
}

/* -- signals and states --------------------------------------------------------------------------------------------- */

long
container_signal (int number)
{
  long e;
  if (sv.start.pidfd < 0)
    return -ESRCH;
  e = sys (pidfd_send_signal, sv.start.pidfd, number, 0, 0);
  if (e == 0)
    event_write ("kill", "signal", number);
  /* A process frozen by the v1 freezer dies only once it is thawed. */
  if (number == SIGKILL && sv.paused && sv.start.unified < 0)
    container_freeze (false);
  return e;
}

/* The v2 freezer lets SIGKILL through; cgroup.events tells when all have stopped. */
static long
freeze_unified (bool on)
{
  char text[256];
  const char *wanted = on ? "frozen 1" : "frozen 0";
  long e = file_write (sv.start.unified, "cgroup.freeze", on ? "1" : "0");
  for (int tries = 0; e == 0 && tries < 1000; tries++)
    {
      long fd = sys (openat, sv.start.unified, "cgroup.events", O_RDONLY | O_CLOEXEC, 0);
      long n = fd < 0 ? fd : sys (read, fd, text, sizeof text - 1);
      struct timespec pause = { 0, 200000 };
      if (fd >= 0)
        sys (close, fd);
      text[n > 0 ? n : 0] = 0;
      for (const char *at = text; *at; at++)
        if (text_starts (at, wanted))
          return 0;
      sys (nanosleep, &pause, 0);
    }
  return e ? e : -EBUSY;
}

long
container_freeze (bool on)
{
  long e = -EOPNOTSUPP;
  if (sv.start.pidfd < 0)
    return -ESRCH;
  if (on == sv.paused)
    return on ? -EALREADY : -EINVAL;
  if (sv.start.unified >= 0)
    e = freeze_unified (on);
  else
    for (int i = 0; i < PYC_CGROUPS_MAX && e; i++)
      if (sv.start.cgroups[i] >= 0)
        e = file_write (sv.start.cgroups[i], "freezer.state", on ? "FROZEN" : "THAWED");
  if (e)
    return e == -ENOENT ? -EOPNOTSUPP : e;
  sv.paused = on;
  sv.record.status = on ? PYC_STATUS_PAUSED : PYC_STATUS_RUNNING;
  record_write ();
  event_write (on ? "pause" : "unpause", 0, 0);
  return 0;
}

static long
first_process_read (const char *path, char *text, usize size)
{
  long fd = root_open (sv.start.overlay, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
  long n = fd < 0 ? fd : sys (read, fd, text, size - 1);
  if (fd >= 0)
    sys (close, fd);
  text[n > 0 ? n : 0] = 0;
  return n;
}

/* Tells by /proc/1/status whether the first process has one thread, and leaves a signal at its default. */
static bool
at_default (int number)
{
  static const char *const SETS[] = { "SigCgt:\t", "SigBlk:\t", "SigIgn:\t" };
  char text[4096];
  bool single = false;

  if (first_process_read ("proc/1/status", text, sizeof text) <= 0)
    return false;
  for (const char *at = text; *at; at++)
    {
      if (at != text && at[-1] != '\n')
        continue;
      if (text_starts (at, "Threads:\t1\n"))
        single = true;
      for (int i = 0; i < 3; i++)
        if (text_starts (at, SETS[i]))
          {
            /* Sixteen hexadecimal digits, the last for signals 1 to 4. */
            const char *digit = at + 8 + 15 - (number - 1) / 4;
            int value = *digit <= '9' ? *digit - '0' : *digit - 'a' + 10;
            if (value >> ((number - 1) % 4) & 1)
              return false;
          }
    }
  return single;
}

/* Tells whether a signal may as well be SIGKILL: the first process has left it at its default, which is to die of it, but
   to process 1 of a namespace such a signal is never delivered (pid_namespaces(7)). One that waits for signals
   (sigtimedwait(2), as init programs do) shows them as not blocked meanwhile. */
static bool
in_vain (int number)
{
  char text[256];
  const char *at = text;
  if (number == SIGCHLD || number == SIGCONT || number == SIGURG || number == SIGWINCH || number == SIGKILL)
    return false;
  for (int i = 0; i < 2; i++)
    {
      if (!at_default (number) || first_process_read ("proc/1/syscall", text, sizeof text) <= 0)
        return false;
      at = text;
      if (*at >= '0' && *at <= '9' && text_parse (&at) == __NR_rt_sigtimedwait)
        return false;
    }
  return at_default (number);
}

/* The stop signal now, SIGKILL after `timeout` ns; a container that waits for its restart ends at once. */
void
container_stop (int number, uint64_t timeout)
{
  sv.record.flags |= PYC_RECORD_STOPPED;
  sv.stopping = true;
  if (sv.restart_at)
    {
      sv.restart_at = 0;
      sv.record.status = PYC_STATUS_EXITED;
      sv.over = true;
      return;
    }
  if (timeout != UINT64_MAX && !(sv.plan.head->flags & PYC_PLAN_HOST_PID) && in_vain (number))
    number = SIGKILL;
  container_signal (number);
  if (sv.paused && number != SIGKILL)
    container_freeze (false);
  if (timeout != UINT64_MAX)
    sv.kill_at = now_ns (1) + timeout;
}

void
container_destroy (void)
{
  sv.destroy = true;
  container_stop (SIGKILL, UINT64_MAX);
}

/* -- the beginning -------------------------------------------------------------------------------------------------------- */

static long
listen_begin (void)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  usize n = text_copy (address.sun_path, sizeof address.sun_path, sv.path);
  long e;
  text_copy (address.sun_path + n, sizeof address.sun_path - n, "/ctl.sock");
  sys (unlinkat, AT_FDCWD, address.sun_path, 0);
  sv.listener = (int)sys (socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sys (umask, 0177);
  e = sys (bind, sv.listener, &address, sizeof address);
  sys (umask, 0);
  if (e == 0)
    e = sys (listen, sv.listener, 256);
  if (e == 0)
    watch_fd (sv.listener, SOURCE_LISTENER, 0, EPOLLIN);
  return e;
}

static long
files_open (void)
{
  long e = sys (openat, AT_FDCWD, sv.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (e < 0)
    return e;
  sv.directory = (int)e;
  e = sys (openat, sv.directory, "state", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (e < 0)
    return e;
  sv.state_fd = (int)e;
  e = file_lock (sv.state_fd);
  if (e)
    return e;
  e = sys (pread64, sv.state_fd, &sv.record, sizeof sv.record, 0);
  if (e != sizeof sv.record || sv.record.magic != PYC_RECORD_MAGIC)
    memset (&sv.record, 0, sizeof sv.record);
  sv.record.magic = PYC_RECORD_MAGIC;
  sv.record.restart_count = 0;
  e = sys (openat, sv.directory, "log", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (e < 0)
    return e;
  sv.log_fd = (int)e;
  e = sys (lseek, sv.log_fd, 0, 2);
  sv.record.log_end = e > 0 ? (uint64_t)e : 0;
  return listen_begin ();
}

/* The id is the last part of the path; `text` of the request is the payload's first text, the boot id its second. */
static void
names_take (const struct message *m)
{
  const char *slash = m->payload;
  text_copy (sv.path, sizeof sv.path, m->payload);
  for (const char *at = sv.path; *at; at++)
    if (*at == '/')
      slash = at + 1;
  text_copy (sv.id, sizeof sv.id, slash);
  title_set ("pycontainers-supervisor", sv.id);
  if (m->head.text && m->head.text < m->payload_length)
    text_copy (sv.record.boot_id, sizeof sv.record.boot_id, m->payload + m->head.text);
}

static _Noreturn void
give_up (int conn, long error, const char *text)
{
  struct failure f = { 0 };
  fail (&f, error == -EAGAIN || error == -EACCES ? PYC_STEP_LOCK : PYC_STEP_FILES, error, text);
  reply_failure (conn, &f);
  leave (1);
}

static void
take_descriptors (struct message *m)
{
  sv.owner = m->owner;
  sv.caller_stdin = m->stdio[0];
  for (int i = 0; i < m->fd_count && i < PYC_FDS_MAX; i++)
    sv.start.slots[i] = m->fds[i];
  sv.start.slot_count = m->fd_count;
  sv.rows = (uint32_t)m->head.b;
  sv.columns = (uint32_t)m->head.c;
}

static _Noreturn void
begin_failed (int conn)
{
  struct failure f = sv.start.failure;
  streams_close ();
  start_release (&sv.start);
  start_failed ();
  if (sv.plan.head->flags & PYC_PLAN_AUTO_REMOVE)
    sv.destroy = true;
  sv.failed_start = f;
  sv.start_conn = conn;
  finish ();
}

_Noreturn void
supervise (int conn, struct message *m, int netns)
{
  struct
  {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
  } plain = { 0 };
  long e;

  sys (rt_sigaction, SIGCHLD, &plain, 0, 8);
  sv.stdin_fd = sv.output[0] = sv.output[1] = sv.caller_stdin = sv.owner = -1;
  sv.epoll = (int)sys (epoll_create1, EPOLL_CLOEXEC);
  clients_init ();
  names_take (m);
  e = files_open ();
  if (e)
    give_up (conn, e, sv.path);
  names_take (m);
  e = plan_map (&sv.plan);
  if (e)
    give_up (conn, e, "plan");
  start_init (&sv.start, &sv.plan);
  sv.start.netns = netns;
  take_descriptors (m);
  for (uint32_t i = 0; i < sv.plan.head->op_count; i++)
    if (((const struct pyc_op *)(sv.plan.base + sv.plan.head->ops))[i].code == PYC_OP_CGROUP
        && ((const struct pyc_op *)(sv.plan.base + sv.plan.head->ops))[i].x)
      sv.has_memory_limit = true;
  /* The record's next number tells that this start has begun. */
  e = record_store ();
  if (e)
    give_up (conn, e, "state");
  if (sv.plan.head->flags & PYC_PLAN_HOST_PID)
    orphans_adopt ();
  if (container_start ())
    begin_failed (conn);
  if (sv.start.netns >= 0)
    sys (close, sv.start.netns);
  sv.start.netns = -1;
  if (sv.owner >= 0)
    watch_fd (sv.owner, SOURCE_OWNER, 0, EPOLLIN);
  client_add (conn, m->head.flags & PYC_REQ_REPLY_AT_EXIT ? CLIENT_WAITS_EXIT : 0);
  if (!(m->head.flags & PYC_REQ_REPLY_AT_EXIT))
    start_reply (conn);
  while (!sv.over)
    serve_once (message_buffer, sizeof message_buffer);
  finish ();
}
