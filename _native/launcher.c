/* The launcher: started on demand, it clones a supervisor per container and a child per job, and goes when idle. */
#include "process.h"

#include <linux/capability.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define INIT_FD 3
#define POOL_SIZE 4
#define IDLE_MS 10000
#define CONNECTIONS 256

struct launcher launcher;

static char buffer[PYC_MESSAGE_MAX] __attribute__ ((aligned (8)));
static char socket_path[108];
static int listener = -1;
static int lock_fd = -1;
static int pool[POOL_SIZE];
static int pool_count;
static char *title;
static usize title_size;

void
title_set (const char *name, const char *what)
{
  usize n;
  if (!title)
    return;
  memset (title, 0, title_size);
  n = text_copy (title, title_size, name);
  if (*what && n + 2 < title_size)
    {
      title[n++] = ' ';
      text_copy (title + n, title_size - n, what);
    }
  sys (prctl, PR_SET_NAME, name, 0, 0, 0);
}

static _Noreturn void
init_failed (uint32_t step, long error, const char *text)
{
  struct failure f = { 0 };
  fail (&f, step, error, text);
  reply_failure (INIT_FD, &f);
  leave (1);
}

/* The caller's limits are not the containers': every soft limit goes up to the hard one, the stack's excepted. */
static void
limits_reset (void)
{
  for (int i = 0; i < 16; i++)
    {
      struct rlimit64 r;
      if (i == RLIMIT_STACK || sys (prlimit64, 0, i, 0, &r))
        continue;
      r.rlim_cur = r.rlim_max;
      if (i == RLIMIT_NOFILE && r.rlim_cur > 1048576)
        r.rlim_cur = 1048576;
      sys (prlimit64, 0, i, &r, 0);
    }
}

static void
signals_reset (void)
{
  struct
  {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
  } plain = { 0 }, ignore = { (void *)1, 0, 0, 0 };
  uint64_t none = 0;
  for (int i = 1; i <= 64; i++)
    sys (rt_sigaction, i, &plain, 0, 8);
  sys (rt_sigaction, SIGPIPE, &ignore, 0, 8);
  /* Supervisors are not waited for: the kernel reaps them. */
  sys (rt_sigaction, SIGCHLD, &ignore, 0, 8);
  sys (rt_sigprocmask, 2, &none, 0, 8);
}

static long
proc_mount (int root)
{
  long proc = mount_new ("proc", "proc", "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  long e = proc < 0 ? proc : sys (move_mount, proc, "", root, "proc", MOVE_MOUNT_F_EMPTY_PATH);
  if (proc >= 0)
    sys (close, proc);
  return e;
}

/* Makes the mount namespace's own root this process's: a caller in a chroot has another one. */
static long
root_regain (void)
{
  long self = sys (getpid);
  long fd = sys (pidfd_open, self, 0);
  long e = fd < 0 ? fd : sys (setns, fd, CLONE_NEWNS);
  if (fd >= 0)
    sys (close, fd);
  return e;
}

/* A tree of three mounts, so that cloning a mount namespace is cheap: an empty root, the store at /store, and /proc, which
   jobs open files anew by. */
static void
tree_minimal (int store)
{
  static const char OPTIONS[] = "mode=755\0size=64k\0";
  long tree = mount_clone (store, "", true);
  long e = tree < 0 ? tree : sys (unshare, CLONE_NEWNS);
  struct stat made, seen;
  long root;

  if (e == 0)
    e = root_regain ();
  if (e == 0)
    e = sys (mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0);
  if (e)
    init_failed (PYC_STEP_NAMESPACE, e, "mount namespace");
  root = mount_new ("tmpfs", "tmpfs", OPTIONS, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
  e = root < 0 ? root : sys (mkdirat, root, "store", 0700);
  if (e == 0)
    e = sys (mkdirat, root, "proc", 0555);
  if (e == 0)
    e = sys (move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
  if (e == 0)
    e = sys (move_mount, tree, "", root, "store", MOVE_MOUNT_F_EMPTY_PATH);
  if (e == 0)
    e = proc_mount ((int)root);
  if (e == 0)
    e = sys (fchdir, root);
  if (e == 0)
    e = sys (pivot_root, ".", ".");
  if (e == 0)
    e = sys (umount2, ".", 2);
  /* What is entered by setns(2) must be this root, or containers would leave theirs that way. */
  if (e == 0)
    e = root_regain ();
  if (e == 0
      && (sys (newfstatat, root, "", &made, AT_EMPTY_PATH) || sys (newfstatat, AT_FDCWD, "/", &seen, 0)
          || made.st_dev != seen.st_dev || made.st_ino != seen.st_ino))
    e = -EXDEV;
  if (e == 0)
    e = sys (chdir, "/store");
  if (e)
    init_failed (PYC_STEP_ROOT, e, "store");
  sys (close, tree);
  sys (close, root);
}

/* The host's tree stays, as a slave: what the host unmounts goes here too. */
static void
tree_host (int store)
{
  /* First: a working directory moves into the new mount namespace, a descriptor does not. */
  long e = sys (fchdir, store);
  if (e)
    init_failed (PYC_STEP_ROOT, e, "store");
  e = sys (unshare, CLONE_NEWNS);
  if (e == 0)
    e = sys (mount, 0, "/", 0, MS_REC | MS_SLAVE, 0);
  if (e)
    init_failed (PYC_STEP_NAMESPACE, e, "mount namespace");
}

/* Enters a user namespace; Python, outside, writes its id maps and then sends a byte. */
static void
user_namespace (void)
{
  struct pyc_reply r = { .kind = PYC_REPLY_MAP_IDS };
  struct message m;
  long e = sys (unshare, CLONE_NEWUSER);
  if (e)
    init_failed (PYC_STEP_NAMESPACE, e, "user namespace");
  reply_send (INIT_FD, &r, -1);
  if (message_receive (INIT_FD, &m, buffer, sizeof buffer))
    leave (1);
  message_close (&m);
  e = sys (setresgid, 0, 0, 0);
  if (e == 0)
    e = sys (setresuid, 0, 0, 0);
  if (e)
    init_failed (PYC_STEP_USER, e, "0");
}

static void
cgroups_enter (void)
{
  for (int i = 0; i < launcher.cgroup_count; i++)
    {
      long fd = sys (openat, launcher.cgroups[i], "launcher/tasks", O_WRONLY | O_CLOEXEC, 0);
      if (fd < 0)
        fd = sys (openat, launcher.cgroups[i], "launcher/cgroup.procs", O_WRONLY | O_CLOEXEC, 0);
      /* Gone with the last launcher of another store: the starter makes it anew. */
      if (fd == -ENOENT || fd == -ENODEV)
        init_failed (PYC_STEP_CGROUP_JOIN, fd, "launcher");
      if (fd < 0)
        continue;
      if (sys (write, fd, "0", 1) == -ENODEV)
        init_failed (PYC_STEP_CGROUP_JOIN, -ENODEV, "launcher");
      sys (close, fd);
    }
}

static void
bounding_reset (uint64_t keep)
{
  launcher.bounding = 0;
  for (int i = 0; i < 64; i++)
    {
      long has = sys (prctl, PR_CAPBSET_READ, i, 0, 0, 0);
      if (has < 0)
        break;
      if (has && !(keep >> i & 1))
        has = sys (prctl, PR_CAPBSET_DROP, i, 0, 0, 0) != 0;
      if (has)
        launcher.bounding |= 1ull << i;
    }
}

static void
listen_begin (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  char temporary[108];
  usize n = text_copy (temporary, sizeof temporary - 4, path);
  long e;

  text_copy (temporary + n, 4, ".n");
  text_copy (socket_path, sizeof socket_path, path);
  text_copy (address.sun_path, sizeof address.sun_path, temporary);
  sys (unlinkat, AT_FDCWD, temporary, 0);
  listener = (int)sys (socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sys (umask, 0177);
  e = sys (bind, listener, &address, sizeof address);
  sys (umask, 0);
  if (e == 0)
    e = sys (listen, listener, 1024);
  if (e == 0)
    e = sys (renameat2, AT_FDCWD, temporary, AT_FDCWD, path, 0);
  if (e)
    init_failed (PYC_STEP_FILES, e, path);
}

/* Descriptors of the first request: store, lock, this program, /dev/null, then the cgroups' parents. */
static void
begin (void)
{
  struct message m;
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  char path[108];
  long pid;

  if (message_receive (INIT_FD, &m, buffer, sizeof buffer) || m.head.kind != PYC_REQ_INIT || m.fd_count < 4
      || m.fd_count - 4 > PYC_CGROUPS_MAX)
    leave (1);
  text_copy (path, sizeof path, m.payload);
  launcher.rootless = m.head.a != 0;
  launcher.program = m.fds[2];
  launcher.null = m.fds[3];
  lock_fd = m.fds[1];
  launcher.cgroup_count = m.fd_count - 4;
  for (int i = 0; i < launcher.cgroup_count; i++)
    launcher.cgroups[i] = m.fds[4 + i];
  sys (setsid);
  /* Not the caller's keys. */
  sys (keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, 0, 0, 0, 0);
  cgroups_enter ();
  limits_reset ();
  if (launcher.rootless)
    user_namespace ();
  pid = sys (clone, SIGCHLD, 0, 0, 0, 0);
  if (pid)
    leave (pid < 0);
  signals_reset ();
  sys (umask, 0);
  if (launcher.rootless)
    tree_host (m.fds[0]);
  else
    tree_minimal (m.fds[0]);
  sys (close, m.fds[0]);
  bounding_reset ((uint64_t)m.head.b);
  sys (prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
  title_set ("pycontainers-launcher", path);
  listen_begin (path);
  reply_send (INIT_FD, &r, -1);
  sys (close, INIT_FD);
}

/* -- a pool of network namespaces ------------------------------------------------------------------------------------ */

static int made_netns;

static int
netns_main (void *arg)
{
  long fd;
  (void)arg;
  made_netns = -1;
  if (sys (unshare, CLONE_NEWNET))
    return 1;
  fd = loopback_up ();
  if (fd < 0)
    return 1;
  /* SIOCGSKNS gives the socket's network namespace; the descriptor table is shared with the launcher. */
  made_netns = (int)sys (ioctl, fd, 0x894c);
  if (made_netns >= 0)
    sys (fcntl, made_netns, F_SETFD, FD_CLOEXEC);
  sys (close, fd);
  return 0;
}

static bool
pool_fill (void)
{
  struct clone_args args = {
    .flags = CLONE_VM | CLONE_VFORK | CLONE_FILES,
    .exit_signal = SIGCHLD,
    .stack = (uint64_t)(uintptr_t)scratch.stack,
    .stack_size = STACK_SIZE,
  };
  /* Not only by the child, which may be killed before it does so. */
  made_netns = -1;
  if (pool_count == POOL_SIZE || clone_call (&args, netns_main, 0) < 0 || made_netns < 0)
    return false;
  pool[pool_count++] = made_netns;
  return true;
}

/* -- requests ---------------------------------------------------------------------------------------------------------- */

static bool
is_job (uint32_t kind)
{
  return kind >= PYC_REQ_UNPACK && kind <= PYC_REQ_SYNC;
}

/* A clone keeps what is its own alone: another client's connection would not end with its closing. */
static void
others_close (int conn, const struct message *m, int netns)
{
  int keep[PYC_FDS_MAX + PYC_CGROUPS_MAX + 16] = { 0, 1, 2, launcher.program, launcher.null, conn, netns, m->owner };
  int count = 8;
  int low = 0;

  for (int i = 0; i < 3; i++)
    keep[count++] = m->stdio[i];
  for (int i = 0; i < launcher.cgroup_count; i++)
    keep[count++] = launcher.cgroups[i];
  for (int i = 0; i < m->fd_count; i++)
    keep[count++] = m->fds[i];
  for (;;)
    {
      int next = -1;
      for (int i = 0; i < count; i++)
        if (keep[i] >= low && (next < 0 || keep[i] < next))
          next = keep[i];
      if (next != low)
        sys (close_range, low, next < 0 ? ~0u : (unsigned)next - 1, 0);
      if (next < 0)
        return;
      low = next + 1;
    }
}

/* The clone's process 1 is the supervisor: when it dies, whatever way, the kernel kills all that it started. */
static void
supervisor_begin (int conn, struct message *m)
{
  struct clone_args args = { .flags = m->head.a & PYC_PLAN_HOST_PID ? 0 : CLONE_NEWPID, .exit_signal = SIGCHLD };
  int netns = m->head.a & PYC_PLAN_NEW_NETWORK && pool_count ? pool[--pool_count] : -1;
  struct failure f = { 0 };
  long pid = sys (clone3, &args, sizeof args);

  if (pid == 0)
    {
      others_close (conn, m, netns);
      supervise (conn, m, netns);
    }
  if (netns >= 0)
    sys (close, netns);
  if (pid < 0)
    {
      fail (&f, PYC_STEP_CLONE, pid, "supervisor");
      reply_failure (conn, &f);
    }
}

static void
job_begin (int conn, struct message *m)
{
  struct clone_args args = { .exit_signal = SIGCHLD };
  long pid = sys (clone3, &args, sizeof args);
  struct failure f = { 0 };
  if (pid == 0)
    {
      others_close (conn, m, -1);
      title_set ("pycontainers-job", "");
      job_main (conn, m);
    }
  if (pid < 0)
    {
      fail (&f, PYC_STEP_CLONE, pid, "job");
      reply_failure (conn, &f);
    }
}

/* The socket's name goes first, under the lock that starters hold; who connected before is still served. */
static bool
may_go (void)
{
  if (sys (flock, lock_fd, LOCK_EX | LOCK_NB))
    return false;
  sys (unlinkat, AT_FDCWD, socket_path, 0);
  sys (flock, lock_fd, LOCK_UN);
  return true;
}

bool
launcher_gone (void)
{
  return sys (faccessat, AT_FDCWD, socket_path, 0) != 0;
}

static bool
peer_is_ours (int conn)
{
  struct ucred peer;
  unsigned length = sizeof peer;
  return sys (getsockopt, conn, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == 0;
}

/* Serves one connection's first request; the connection is then the supervisor's or the job's. */
static bool
serve (int conn)
{
  static struct message m;
  bool retire = false;
  if (message_receive (conn, &m, buffer, sizeof buffer) == 0)
    {
      if (m.head.kind == PYC_REQ_START)
        supervisor_begin (conn, &m);
      else if (is_job (m.head.kind))
        job_begin (conn, &m);
      else if (m.head.kind == PYC_REQ_RETIRE)
        {
          struct pyc_reply r = { .kind = PYC_REPLY_DONE };
          retire = true;
          reply_send (conn, &r, -1);
        }
      message_close (&m);
    }
  sys (close, conn);
  return retire;
}

static _Noreturn void
serve_all (void)
{
  int epoll = (int)sys (epoll_create1, EPOLL_CLOEXEC);
  struct epoll_event event = { .events = EPOLLIN, .data.fd = listener };
  int waiting = 0;
  bool leaving = false;

  sys (epoll_ctl, epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;)
    {
      long n = sys (epoll_pwait, epoll, &event, 1, leaving ? 0 : pool_count < POOL_SIZE ? 0 : IDLE_MS, 0, 8);
      if (n == 0 && leaving && waiting == 0)
        {
          cgroups_leave ();
          leave (0);
        }
      if (n == 0 && !leaving && !pool_fill ())
        {
          if (pool_count < POOL_SIZE)
            n = sys (epoll_pwait, epoll, &event, 1, IDLE_MS, 0, 8);
          if (n == 0)
            leaving = may_go ();
        }
      if (n <= 0)
        continue;
      if (event.data.fd == listener)
        {
          long conn = sys (accept4, listener, 0, 0, SOCK_CLOEXEC);
          if (conn < 0)
            continue;
          if (waiting >= CONNECTIONS || !peer_is_ours ((int)conn))
            {
              sys (close, conn);
              continue;
            }
          event.data.fd = (int)conn;
          sys (epoll_ctl, epoll, EPOLL_CTL_ADD, conn, &event);
          waiting++;
          continue;
        }
      waiting--;
      sys (epoll_ctl, epoll, EPOLL_CTL_DEL, event.data.fd, &event);
      if (serve (event.data.fd))
        leaving = leaving || may_go ();
    }
}

_Noreturn void start_here (long *stack);

_Noreturn void
start_here (long *stack)
{
  char **argv = (char **)(stack + 1);
  char **env = argv + *stack + 1;
  if (*stack > 2 && strcmp (argv[0], "pycontainers-init") == 0)
    init_main (argv, env);
  if (*stack == 2 && strcmp (argv[0], "pycontainers-doctor") == 0)
    doctor_main (argv[1]);
  if (*stack != 2 || strcmp (argv[0], "pycontainers-launcher"))
    leave (125);
  title = argv[0];
  title_size = strlen (argv[0]) + 1 + strlen (argv[1]) + 1;
  sys (close_range, 4, ~0u, 0);
  begin ();
  serve_all ();
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start_here\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tmov x0, sp\n\tb start_here\n");
#endif
