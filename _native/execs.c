/* Execs in the running container, each a tree of its own that can be killed whole, and health checks, which are execs. */
#include "supervisor.h"

#include <sys/stat.h>

#define EXECS_MAX 256

enum exec_flag
{
  EXEC_USED = 1,
  EXEC_KILL_ON_CLOSE = 2,
  EXEC_HEALTH = 4,
  EXEC_REAPER = 8
};

static struct exec
{
  uint32_t flags;
  int client;
  int conn;
  int pidfd;
  uint32_t number;
  int pid;
} execs[EXECS_MAX];

static int
exec_free (void)
{
  for (int i = 0; i < EXECS_MAX; i++)
    if (!(execs[i].flags & EXEC_USED))
      return i;
  return -1;
}

static void
exec_name (char *to, uint32_t number)
{
  memcpy (to, "exec-", 6);
  text_number (to + 5, number);
}

/* A cgroup below the container's, so that the tree can be killed at one stroke; -1 where there is no v2. */
static int
exec_cgroup (uint32_t number)
{
  char name[32];
  long fd;
  if (sv.start.unified < 0)
    return -1;
  exec_name (name, number);
  if (sys (mkdirat, sv.start.unified, name, 0755))
    return -1;
  fd = sys (openat, sv.start.unified, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  return fd < 0 ? -1 : (int)fd;
}

/* Fails while a process that the exec left behind lives; the last use of the container's cgroup takes it then. */
static void
exec_cgroup_remove (uint32_t number)
{
  char name[32];
  exec_name (name, number);
  if (sv.start.unified >= 0)
    sys (unlinkat, sv.start.unified, name, AT_REMOVEDIR);
}

static int
exec_namespaces (void)
{
  uint32_t flags = sv.plan.head->clone_flags & (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP);
  return (int)(flags | CLONE_NEWNS);
}

/* Starts `process` of `plan` with the streams in `s`. Returns the exec's index, or -1 with the failure in `s`. */
static int
exec_start (struct start *s, const struct pyc_process *process, uint32_t flags)
{
  int i = exec_free ();
  uint32_t number = ++sv.exec_count;
  int cgroup;

  if (i < 0)
    return fail (&s->failure, PYC_STEP_CLONE, -EAGAIN, "too many execs at once");
  sv.scratch_used = true;
  memcpy (s->cgroups, sv.start.cgroups, sizeof s->cgroups);
  s->overlay = sv.start.overlay;
  cgroup = exec_cgroup (number);
  if (start_exec (s, process, sv.start.pidfd, (uint64_t)exec_namespaces (), cgroup))
    {
      if (cgroup >= 0)
        sys (close, cgroup);
      exec_cgroup_remove (number);
      return -1;
    }
  if (cgroup >= 0)
    sys (close, cgroup);
  execs[i] = (struct exec){ EXEC_USED | flags | (cgroup < 0 ? EXEC_REAPER : 0), -1, -1, s->pidfd, number, s->pid };
  watch_fd (s->pidfd, SOURCE_EXEC, i, EPOLLIN);
  return i;
}

static void
exec_kill_one (struct exec *e)
{
  char path[64];
  usize n;
  if (e->flags & EXEC_REAPER || sv.start.unified < 0)
    {
      sys (pidfd_send_signal, e->pidfd, e->flags & EXEC_REAPER ? 64 /* REAPER_KILL */ : SIGKILL, 0, 0);
      return;
    }
  exec_name (path, e->number);
  n = strlen (path);
  text_copy (path + n, sizeof path - n, "/cgroup.kill");
  if (file_write (sv.start.unified, path, "1"))
    sys (pidfd_send_signal, e->pidfd, SIGKILL, 0, 0);
}

/* -- for clients --------------------------------------------------------------------------------------------------------- */

static long
exec_streams (struct start *s, struct message *m, const struct pyc_process *process)
{
  int master = -1;
  long e;
  if (!(process->flags & PYC_PLAN_TTY))
    {
      for (int i = 0; i < 3; i++)
        s->stdio[i] = m->stdio[i];
      return 0;
    }
  e = terminal_open (sv.start.devpts, (int)process->rows, (int)process->columns, &master, &s->slave);
  s->master = master;
  return e;
}

void
exec_begin (int client, int conn, struct message *m)
{
  static struct plan plan;
  static struct start s;
  struct pyc_reply r = { .kind = PYC_REPLY_STARTED };
  struct failure f = { 0 };
  int i;
  long e = plan_check (&plan, m->payload, m->payload_length);

  if (e == 0 && (sv.start.pidfd < 0 || sv.paused))
    e = sv.paused ? -EBUSY : -ESRCH;
  if (e)
    {
      fail (&f, e == -EBADMSG ? PYC_STEP_PLAN : PYC_STEP_STATE, e, "exec");
      reply_failure (conn, &f);
      return;
    }
  start_init (&s, &plan);
  e = exec_streams (&s, m, &plan.head->process);
  if (e)
    i = fail (&s.failure, PYC_STEP_TERMINAL, e, "ptmx");
  else
    i = exec_start (&s, &plan.head->process, m->head.flags & PYC_REQ_KILL_ON_CLOSE ? EXEC_KILL_ON_CLOSE : 0);
  if (s.slave >= 0)
    sys (close, s.slave);
  if (i < 0)
    reply_failure (conn, &s.failure);
  else
    {
      execs[i].client = client;
      execs[i].conn = conn;
      exec_reply (conn, &r, execs[i].pidfd, s.master);
    }
  if (s.master >= 0)
    sys (close, s.master);
}

void
exec_kill (int client)
{
  for (int i = 0; i < EXECS_MAX; i++)
    if (execs[i].flags & EXEC_USED && execs[i].client == client)
      exec_kill_one (&execs[i]);
}

long
exec_signal (int client, int number)
{
  for (int i = 0; i < EXECS_MAX; i++)
    if (execs[i].flags & EXEC_USED && execs[i].client == client)
      {
        if (number == SIGKILL && execs[i].flags & EXEC_REAPER)
          exec_kill_one (&execs[i]);
        else
          return sys (pidfd_send_signal, execs[i].pidfd, number, 0, 0);
        return 0;
      }
  return -ESRCH;
}

void
exec_client_gone (int client)
{
  for (int i = 0; i < EXECS_MAX; i++)
    if (execs[i].flags & EXEC_USED && execs[i].client == client)
      {
        if (execs[i].flags & EXEC_KILL_ON_CLOSE)
          exec_kill_one (&execs[i]);
        execs[i].client = execs[i].conn = -1;
      }
}

static void health_result (int exit_code);

void
exec_ended (int index)
{
  struct exec *e = &execs[index];
  struct pyc_reply r = { .kind = PYC_REPLY_EXITED };
  siginfo_t info = { 0 };

  if (!(e->flags & EXEC_USED) || sys (waitid, 3, e->pidfd, &info, 4, 0))
    return;
  r.exit_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
  exec_cgroup_remove (e->number);
  sys (close, e->pidfd);
  if (e->conn >= 0)
    reply_send (e->conn, &r, -1);
  e->flags &= ~(uint32_t)EXEC_USED;
  if (e->flags & EXEC_HEALTH)
    health_result (r.exit_code);
}

bool
exec_is (int pid)
{
  for (int i = 0; i < EXECS_MAX; i++)
    if (execs[i].flags & EXEC_USED && execs[i].pid == pid)
      return true;
  return false;
}

/* The container's first process has ended, and the kernel has killed all others of its namespace. */
void
execs_end (void)
{
  for (int i = 0; i < EXECS_MAX; i++)
    if (execs[i].flags & EXEC_USED)
      {
        if (sv.plan.head->flags & PYC_PLAN_HOST_PID)
          exec_kill_one (&execs[i]);
        exec_ended (i);
      }
  for (uint32_t n = 1; n <= sv.exec_count; n++)
    exec_cgroup_remove (n);
}

/* -- health -------------------------------------------------------------------------------------------------------------- */

static struct pyc_health_result result;
static int health_pipe = -1;
static int health_exec = -1;

static bool
health_starting (uint64_t now)
{
  return now < sv.started_mono + sv.plan.head->health_start_period;
}

static void
health_next (uint64_t now)
{
  uint64_t start_interval = sv.plan.head->health_start_interval;
  bool early = sv.record.health == PYC_HEALTH_STARTING && health_starting (now) && start_interval;
  sv.health_at = now + (early ? start_interval : sv.plan.head->health_interval);
}

void
health_begin (void)
{
  sv.record.failing_streak = 0;
  sv.record.health = sv.plan.head->has_health ? PYC_HEALTH_STARTING : PYC_HEALTH_NONE;
  sv.health_at = sv.health_limit_at = 0;
  if (sv.plan.head->has_health)
    health_next (now_ns (1));
}

static void
health_pipe_close (void)
{
  if (health_pipe >= 0)
    sys (close, health_pipe);
  health_pipe = -1;
}

void
health_end (void)
{
  sv.health_at = sv.health_limit_at = 0;
  health_pipe_close ();
  health_exec = -1;
  if (sv.record.health != PYC_HEALTH_NONE)
    sv.record.health = PYC_HEALTH_UNHEALTHY;
}

/* Keeps the first bytes, throws away the rest. */
void
health_output (void)
{
  char rest[512];
  long n;
  if (health_pipe < 0)
    return;
  for (;;)
    {
      usize room = sizeof result.output - result.length;
      n = room ? sys (read, health_pipe, result.output + result.length, room) : sys (read, health_pipe, rest, sizeof rest);
      if (n <= 0)
        break;
      if (room)
        result.length += (uint32_t)n;
    }
  if (n == 0)
    health_pipe_close ();
}

static void
health_judge (bool good)
{
  uint64_t now = now_ns (1);
  uint32_t before = sv.record.health;
  if (good)
    {
      sv.record.failing_streak = 0;
      sv.record.health = PYC_HEALTH_HEALTHY;
    }
  else if (!(before == PYC_HEALTH_STARTING && health_starting (now)))
    {
      sv.record.failing_streak++;
      if (sv.record.failing_streak >= sv.plan.head->health_retries)
        sv.record.health = PYC_HEALTH_UNHEALTHY;
    }
  record_write ();
  if (sv.record.health != before)
    event_write (sv.record.health == PYC_HEALTH_HEALTHY ? "health_status: healthy" : "health_status: unhealthy", 0, 0);
  health_next (now);
}

static void
health_result (int exit_code)
{
  long fd;
  if (sv.record.health == PYC_HEALTH_NONE || health_exec < 0)
    return;
  health_output ();
  health_pipe_close ();
  health_exec = -1;
  sv.health_limit_at = 0;
  result.end = now_ns (0);
  result.exit_code = exit_code;
  fd = sys (openat, sv.directory, "health", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd >= 0)
    {
      sys (pwrite64, fd, &result, sizeof result, sv.record.health_count % 5 * sizeof result);
      sys (close, fd);
    }
  sv.record.health_count++;
  health_judge (exit_code == 0);
}

static void
health_start (void)
{
  static struct start s;
  int ends[2];

  result.start = now_ns (0);
  result.length = 0;
  if (sys (pipe2, ends, O_CLOEXEC))
    return;
  sys (fcntl, ends[0], F_SETFL, O_NONBLOCK);
  health_pipe = ends[0];
  start_init (&s, &sv.plan);
  s.stdio[1] = s.stdio[2] = ends[1];
  health_exec = exec_start (&s, &sv.plan.head->health, EXEC_HEALTH);
  sys (close, ends[1]);
  if (health_exec < 0)
    {
      health_exec = 0;
      result.length = (uint32_t)text_copy (result.output, sizeof result.output, "the health check could not be started");
      health_pipe_close ();
      health_result (s.failure.step == PYC_STEP_EXEC && s.failure.error == ENOENT ? 127 : 126);
      return;
    }
  watch_fd (health_pipe, SOURCE_HEALTH, 0, EPOLLIN);
  sv.health_limit_at = now_ns (1) + sv.plan.head->health_timeout;
}

void
health_tick (uint64_t now)
{
  if (sv.health_limit_at && sv.health_limit_at <= now && health_exec >= 0)
    {
      sv.health_limit_at = 0;
      result.length = (uint32_t)text_copy (result.output, sizeof result.output, "Health check exceeded timeout");
      exec_kill_one (&execs[health_exec]);
    }
  if (!sv.health_at || sv.health_at > now)
    return;
  sv.health_at = 0;
  if (sv.start.pidfd >= 0 && !sv.paused)
    health_start ();
  else
    health_next (now);
}
