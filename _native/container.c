/* From a plan to a running container: the supervisor's half of the ops, and the clone of the first process. */
#include "process.h"

#include <linux/bpf.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

struct scratch scratch __attribute__ ((aligned (4096)));

void
scratch_shed (void)
{
  sys (madvise, &scratch, sizeof scratch & ~4095ul, 4 /* MADV_DONTNEED */);
}

const struct pyc_op *
ops_begin (const struct plan *p)
{
  return (const struct pyc_op *)(p->base + p->head->ops);
}

void
start_init (struct start *s, const struct plan *plan)
{
  memset (s, 0, sizeof *s);
  s->plan = plan;
  s->unified = s->overlay = s->devpts = s->master = s->slave = s->pidfd = s->netns = -1;
  for (int i = 0; i < PYC_FDS_MAX; i++)
    s->slots[i] = -1;
  for (int i = 0; i < PYC_CGROUPS_MAX; i++)
    s->cgroups[i] = -1;
  for (int i = 0; i < 3; i++)
    s->stdio[i] = -1;
}

static void
drop (int *fd)
{
  if (*fd >= 0)
    sys (close, *fd);
  *fd = -1;
}

/* -- the supervisor's half ------------------------------------------------------------------------------------------ */

static int
cgroup_make (struct start *s, const struct pyc_op *op)
{
  const char *name = plan_text (s->plan, op->a);
  long fd;
  if (op->slot < 0 || op->slot >= launcher.cgroup_count)
    return fail (&s->failure, PYC_STEP_CGROUP, -EINVAL, name);
  /* A shared one has its rules already, or must not be used. */
  fd = op->flags & PYC_OP_OPTIONAL ? 0 : sys (mkdirat, launcher.cgroups[op->slot], name, 0755);
  if (fd == 0 || fd == -EEXIST)
    fd = sys (openat, launcher.cgroups[op->slot], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0)
    return fail (&s->failure, PYC_STEP_CGROUP, fd, name);
  s->cgroups[op->slot] = (int)fd;
  if (op->flags & PYC_OP_UNIFIED)
    s->unified = (int)fd;
  return 0;
}

long
file_write (int dir, const char *name, const char *value)
{
  long fd = sys (openat, dir, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  long n;
  if (fd < 0)
    return fd;
  n = sys (write, fd, value, strlen (value));
  sys (close, fd);
  return n < 0 ? n : 0;
}

static int
cgroup_write (struct start *s, const struct pyc_op *op)
{
  const char *name = plan_text (s->plan, op->a);
  long e = op->slot < 0 || op->slot >= launcher.cgroup_count
               ? -EINVAL
               : file_write (s->cgroups[op->slot], name, plan_text (s->plan, op->b));
  if (e && !(op->flags & PYC_OP_OPTIONAL))
    return fail (&s->failure, PYC_STEP_CGROUP_WRITE, e, name);
  return 0;
}

/* Version 2 has no files for devices: what a container may open is judged by a program at its cgroup. */
static int
device_filter (struct start *s, const struct pyc_op *op)
{
  union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE };
  union bpf_attr attach = { .attach_type = BPF_CGROUP_DEVICE, .attach_flags = BPF_F_ALLOW_MULTI };
  long fd, e;

  if (s->unified < 0 || op->x % 8 || op->x > s->plan->size - op->a)
    return fail (&s->failure, PYC_STEP_CGROUP_WRITE, -EINVAL, "devices");
  load.insn_cnt = (uint32_t)(op->x / 8);
  load.insns = (uint64_t)(uintptr_t)(s->plan->base + op->a);
  load.license = (uint64_t)(uintptr_t) "GPL";
  fd = sys (bpf, BPF_PROG_LOAD, &load, sizeof load);
  if (fd < 0)
    return fail (&s->failure, PYC_STEP_CGROUP_WRITE, fd, "devices");
  attach.target_fd = (uint32_t)s->unified;
  attach.attach_bpf_fd = (uint32_t)fd;
  e = sys (bpf, BPF_PROG_ATTACH, &attach, sizeof attach);
  sys (close, fd);
  return e ? fail (&s->failure, PYC_STEP_CGROUP_WRITE, e, "devices") : 0;
}

void
slot_path (char *to, int slot)
{
  memcpy (to, "binds/", 7);
  text_number (to + 6, (uint64_t)slot);
}

/* The first attachment gives this process a mount namespace of its own, with room for all. */
static long
attach_begin (struct start *s)
{
  long e;
  if (s->attached)
    return 0;
  e = sys (unshare, CLONE_NEWNS);
  if (e == 0)
    e = sys (mount, "tmpfs", "binds", "tmpfs", MS_NOSUID, "mode=700");
  s->attached = e == 0;
  return e;
}

static bool
same_file (int a, int b)
{
  struct stat x, y;
  return sys (newfstatat, a, "", &x, AT_EMPTY_PATH) == 0 && sys (newfstatat, b, "", &y, AT_EMPTY_PATH) == 0
         && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A source of the host: a clone that the caller sent, or (rootless) a path of our own tree that must be the same file. */
static int
attach (struct start *s, const struct pyc_op *op)
{
  const char *path = plan_text (s->plan, op->a);
  char target[32];
  long tree = op->slot < s->slot_count && op->slot >= 0 ? s->slots[op->slot] : -EBADF;
  long made = -1;
  long e;

  if (tree < 0)
    return fail (&s->failure, PYC_STEP_ATTACH, -EBADF, path);
  if (launcher.rootless)
    {
      made = mount_clone (AT_FDCWD, path, true);
      if (made >= 0 && !same_file ((int)made, (int)tree))
        {
          sys (close, made);
          made = -ESTALE;
        }
      if (made < 0)
        return fail (&s->failure, PYC_STEP_ATTACH, made == -ENOENT ? -ESTALE : made, path);
      tree = made;
    }
  e = attach_begin (s);
  slot_path (target, op->slot);
  /* Neither the container's mounts below it go to the host, nor the host's to the container, unless that is asked for. */
  if (e == 0)
    e = mount_spread ((int)tree, op->x ? op->x : MS_PRIVATE);
  if (e == 0 && (op->flags & PYC_OP_IS_FILE))
    {
      e = sys (openat, AT_FDCWD, target, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
      if (e >= 0)
        e = sys (close, e);
    }
  else if (e == 0)
    e = sys (mkdirat, AT_FDCWD, target, 0700);
  if (e == 0)
    e = sys (move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  if (made >= 0)
    sys (close, made);
  return e ? fail (&s->failure, PYC_STEP_ATTACH, e, path) : 0;
}

/* The write layer's own directory shows as the container's root: it takes after the image's. */
static void
upper_like (int upper, const char *lower)
{
  struct stat st;
  if (sys (newfstatat, AT_FDCWD, lower, &st, 0))
    return;
  if (st.st_uid || st.st_gid)
    sys (fchown, upper, st.st_uid, st.st_gid);
  if ((st.st_mode & 07777) != 0755)
    sys (fchmod, upper, st.st_mode & 07777);
}

/* An overlay for one directory of the root waits among the binds: SUBROOT puts it in place. */
static int
overlay_keep (struct start *s, int slot, int fd)
{
  char target[32];
  long e = attach_begin (s);
  slot_path (target, slot);
  if (e == 0)
    e = sys (mkdirat, AT_FDCWD, target, 0700);
  if (e == 0)
    e = sys (move_mount, fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
  return e ? fail (&s->failure, PYC_STEP_OVERLAY, e, target) : 0;
}

int
start_overlay (struct start *s, const struct pyc_op *op)
{
  const char *lowers = plan_text (s->plan, op->a);
  const char *upper = plan_text (s->plan, op->b);
  const char *work = plan_text (s->plan, op->c);
  long fd = 0;

  if (*upper)
    {
      fd = sys (mkdirat, AT_FDCWD, upper, 0755);
      if (fd == 0)
        {
          long made = sys (openat, AT_FDCWD, upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
          if (made >= 0)
            {
              upper_like ((int)made, lowers);
              sys (close, made);
            }
        }
      if (fd == 0 || fd == -EEXIST)
        fd = sys (mkdirat, AT_FDCWD, work, 0700);
      if (fd == -EEXIST)
        fd = 0;
    }
  if (fd == 0)
    fd = mount_overlay (lowers, upper, work, op->flags);
  if (fd < 0)
    return fail (&s->failure, PYC_STEP_OVERLAY, fd, lowers);
  if (op->slot >= 0)
    {
      int e = overlay_keep (s, op->slot, (int)fd);
      sys (close, fd);
      return e;
    }
  drop (&s->overlay);
  s->overlay = (int)fd;
  return 0;
}

static int
devpts_make (struct start *s)
{
  static const char OPTIONS[] = "newinstance\0ptmxmode=0666\0mode=0620\0gid=5\0";
  static const char SINGLE[] = "newinstance\0ptmxmode=0666\0mode=0620\0";
  long fd = mount_new ("devpts", "devpts", OPTIONS, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
  /* Group 5 (tty) has no id where a single one is mapped. */
  if (fd == -EINVAL)
    fd = mount_new ("devpts", "devpts", SINGLE, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
  if (fd < 0)
    return fail (&s->failure, PYC_STEP_TERMINAL, fd, "devpts");
  s->devpts = (int)fd;
  return 0;
}

long
loopback_up (void)
{
  struct ifreq request = { 0 };
  long fd = sys (socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  long e;
  if (fd < 0)
    return fd;
  memcpy (request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  e = sys (ioctl, fd, SIOCSIFFLAGS, &request);
  if (e)
    {
      sys (close, fd);
      return e;
    }
  return fd;
}

int
terminal_open (int devpts, int rows, int columns, int *master, int *slave)
{
  struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };
  int unlocked = 0;
  long m = sys (openat, devpts, "ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC, 0);
  long s;
  if (m < 0)
    return (int)m;
  s = sys (ioctl, m, TIOCSPTLCK, &unlocked);
  if (s == 0)
    s = sys (ioctl, m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (s < 0)
    {
      sys (close, m);
      return (int)s;
    }
  if (rows || columns)
    sys (ioctl, m, TIOCSWINSZ, &size);
  *master = (int)m;
  *slave = (int)s;
  return 0;
}

int
start_prepare (struct start *s)
{
  const struct pyc_op *op = ops_begin (s->plan);
  const struct pyc_op *end = op + s->plan->head->op_count;
  int e = devpts_make (s);

  for (; e == 0 && op < end && op->code != PYC_OP_CHILD; op++)
    switch (op->code)
      {
      case PYC_OP_CGROUP:
        e = cgroup_make (s, op);
        break;
      case PYC_OP_CGROUP_WRITE:
        e = cgroup_write (s, op);
        break;
      case PYC_OP_DEVICE_FILTER:
        e = s->prepared ? 0 : device_filter (s, op);
        break;
      case PYC_OP_ATTACH:
        e = s->prepared ? 0 : attach (s, op);
        break;
      case PYC_OP_OVERLAY:
        e = s->prepared && op->slot >= 0 ? 0 : start_overlay (s, op);
        break;
      default:
        e = fail (&s->failure, PYC_STEP_PLAN, -EINVAL, "op");
      }
  if (e)
    s->failure.op = (uint32_t)(op - ops_begin (s->plan));
  else
    s->prepared = true;
  return e;
}

void
cgroups_remove (const struct plan *plan)
{
  const struct pyc_op *op = ops_begin (plan);
  for (uint32_t i = 0; i < plan->head->op_count; i++, op++)
    if (op->code == PYC_OP_CGROUP && !(op->flags & PYC_OP_OPTIONAL) && op->slot >= 0 && op->slot < launcher.cgroup_count)
      {
        /* An emptied cgroup may stay busy for a moment while its last process is still being reaped. */
        struct timespec pause = { 0, 1000000 };
        for (int tries = 0; tries < 200; tries++)
          {
            long e = sys (unlinkat, launcher.cgroups[op->slot], plan_text (plan, op->a), AT_REMOVEDIR);
            if (e != -EBUSY)
              break;
            sys (nanosleep, &pause, 0);
          }
      }
}

/* Kills all that is in a container's own cgroups; for one in the host's pid namespace, where no namespace's end does it. */
void
cgroups_kill (const struct plan *plan)
{
  const struct pyc_op *op = ops_begin (plan);
  for (uint32_t i = 0; i < plan->head->op_count; i++, op++)
    if (op->code == PYC_OP_CGROUP && !(op->flags & PYC_OP_OPTIONAL) && op->slot >= 0 && op->slot < launcher.cgroup_count)
      {
        long dir = sys (openat, launcher.cgroups[op->slot], plan_text (plan, op->a), O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        bool found = dir >= 0 && file_write ((int)dir, "cgroup.kill", "1") != 0;
        /* Who forks meanwhile is found by the next round. */
        for (int tries = 0; found && tries < 1000; tries++)
          {
            static char text[4096];
            long fd = sys (openat, dir, "cgroup.procs", O_RDONLY | O_CLOEXEC, 0);
            long n = fd < 0 ? fd : sys (read, fd, text, sizeof text - 1);
            struct timespec pause = { 0, 1000000 };
            const char *at = text;
            if (fd >= 0)
              sys (close, fd);
            text[n > 0 ? n : 0] = 0;
            found = n > 0;
            while (*at)
              {
                uint64_t pid = text_parse (&at);
                if (pid && *at == '\n')
                  sys (kill, pid, SIGKILL);
                while (*at && (*at < '0' || *at > '9'))
                  at++;
              }
            if (found)
              sys (nanosleep, &pause, 0);
          }
        if (dir >= 0)
          sys (close, dir);
      }
}

void
cgroups_leave (void)
{
  for (int i = 0; i < launcher.cgroup_count; i++)
    {
      static const char *const NAMES[] = { "../tasks", "../cgroup.procs" };
      for (int j = 0; j < 2; j++)
        if (file_write (launcher.cgroups[i], NAMES[j], "0") == 0)
          break;
      /* Busy while another launcher or supervisor of this user is in it: the last one gets further. */
      if (sys (unlinkat, launcher.cgroups[i], "launcher", AT_REMOVEDIR))
        continue;
      sys (unlinkat, launcher.cgroups[i], "default", AT_REMOVEDIR);
      sys (unlinkat, launcher.cgroups[i], "../pycontainers", AT_REMOVEDIR);
    }
}

void
start_release (struct start *s)
{
  drop (&s->devpts);
  drop (&s->master);
  drop (&s->slave);
  drop (&s->pidfd);
  for (int i = 0; i < 3; i++)
    drop (&s->stdio[i]);
  for (int i = 0; i < PYC_CGROUPS_MAX; i++)
    drop (&s->cgroups[i]);
  s->unified = -1;
}

/* -- the first process ---------------------------------------------------------------------------------------------- */

/* A network of its own that was made beforehand, else the lone loopback link of a new one is brought up. */
static int
network_enter (struct child *c)
{
  long e = 0;
  if (c->start->netns >= 0)
    e = sys (setns, c->start->netns, CLONE_NEWNET);
  else if (c->start->plan->head->clone_flags & CLONE_NEWNET)
    {
      long fd = loopback_up ();
      e = fd < 0 ? fd : sys (close, fd);
    }
  return e ? child_fail (c, PYC_STEP_NETWORK, e, "lo") : 0;
}

static int
container_main (void *arg)
{
  struct child *c = arg;
  const struct pyc_op *op = ops_begin (c->start->plan);
  const struct pyc_op *begin = op;
  const struct pyc_op *end = op + c->start->plan->head->op_count;

  if (c->plan_flags & PYC_PLAN_HOST_PID)
    sys (prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (network_enter (c))
    return 127;
  while (op < end && op->code != PYC_OP_CHILD)
    op++;
  for (op++; op < end; op++)
    if (child_op (c, op))
      {
        c->start->failure.op = (uint32_t)(op - begin);
        return 127;
      }
  if (pivot (c))
    return 127;
  become (c, c->process);
  return 127;
}

/* A child that failed reported in `failure` and is reaped here. */
int
launched (struct start *s, long pid, int pidfd)
{
  siginfo_t info;
  if (pid < 0)
    return s->failure.error ? -1 : fail (&s->failure, PYC_STEP_CLONE, pid, "clone3");
  if (s->failure.error)
    {
      sys (waitid, 3 /* P_PIDFD */, pidfd, &info, 4 /* WEXITED */, 0);
      sys (close, pidfd);
      return -1;
    }
  s->pidfd = pidfd;
  s->pid = (int)pid;
  return 0;
}

int
start_launch (struct start *s)
{
  const struct pyc_plan *head = s->plan->head;
  struct child c
      = { .start = s, .process = &head->process, .root = -1, .dev = -1, .proc = -1, .mask = -1, .plan_flags = head->flags };
  int pidfd = -1;
  long pid;
  struct clone_args args = {
    .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | head->clone_flags,
    .pidfd = (uint64_t)(uintptr_t)&pidfd,
    .exit_signal = SIGCHLD,
    .stack = (uint64_t)(uintptr_t)scratch.stack,
    .stack_size = sizeof scratch.stack,
  };
  if (s->netns >= 0)
    args.flags &= ~(uint64_t)CLONE_NEWNET;
  if (s->unified >= 0)
    {
      args.flags |= CLONE_INTO_CGROUP;
      args.cgroup = (uint64_t)s->unified;
    }
  s->failure.error = 0;
  pid = clone_call (&args, container_main, &c);
  return launched (s, pid, pidfd);
}
