/* A container's root as its first process makes it: one interpreter for the child's half of a plan's ops. */
#include "process.h"

#include <linux/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

int
child_fail (struct child *c, uint32_t step, long error, const char *text)
{
  return fail (&c->start->failure, step, error, text);
}

int
cgroup_join (struct child *c, const struct pyc_op *op)
{
  const struct plan *p = c->start->plan;
  long late = -1;
  long e = op->slot < 0 || op->slot >= launcher.cgroup_count ? -EINVAL : 0;

  /* A cgroup that a running container got later, for a limit that it began without. */
  if (e == 0 && c->start->cgroups[op->slot] < 0 && *plan_text (p, p->head->cgroup))
    late = sys (openat, launcher.cgroups[op->slot], plan_text (p, p->head->cgroup), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  /* One thread writing "0" to `tasks` takes no lock of all thread groups; `cgroup.procs` waits 10 ms for one. */
  if (e == 0)
    e = file_write (late >= 0 ? (int)late : c->start->cgroups[op->slot], "tasks", "0");
  if (late >= 0)
    sys (close, late);
  return e ? child_fail (c, PYC_STEP_CGROUP_JOIN, e, plan_text (c->start->plan, op->a)) : 0;
}

static int
root_mount (struct child *c, const struct pyc_op *op)
{
  long e = sys (move_mount, c->start->overlay, "", AT_FDCWD, "mnt", MOVE_MOUNT_F_EMPTY_PATH);
  if (e)
    return child_fail (c, PYC_STEP_ROOT, e, "mnt");
  c->root = c->start->overlay;
  e = op->x ? mount_restrict (c->root, op->x, false) : 0;
  return e ? child_fail (c, PYC_STEP_ROOT, e, "/") : 0;
}

/* The kernel's own file systems go where they belong or nowhere: no symbolic link of the image leads them elsewhere. */
static int
fs_mount (struct child *c, const struct pyc_op *op)
{
  const char *type = plan_text (c->start->plan, op->a);
  const char *target = plan_text (c->start->plan, op->b);
  bool proc = strcmp (type, "proc") == 0;
  bool kernel = proc || strcmp (type, "sysfs") == 0;
  long at, fd, e;

  at = kernel ? root_open (c->root, target, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS) : root_make (c->root, target, false);
  if (at == -ENOENT && kernel)
    {
      at = root_make (c->root, target, false);
      if (at >= 0)
        {
          sys (close, at);
          at = root_open (c->root, target, O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
        }
    }
  if (at < 0)
    return child_fail (c, PYC_STEP_MOUNT, at, target);
  fd = mount_new (type, type, plan_text (c->start->plan, op->c), op->x);
  e = 0;
  if (fd == -EPERM && (op->flags & PYC_OP_HOST_DEVICES) && (!proc || c->plan_flags & PYC_PLAN_HOST_PID))
    {
      /* A user namespace may not mount sysfs for a network that it doesn't own, nor proc for processes that it doesn't
         own: it gets the host's, sysfs read-only. */
      fd = mount_clone (AT_FDCWD, target, true);
      if (fd >= 0)
        e = mount_restrict ((int)fd, op->x, true);
    }
  if (e == 0)
    e = fd < 0 ? fd : mount_place ((int)fd, (int)at);
  sys (close, at);
  if (e)
    {
      if (fd >= 0)
        sys (close, fd);
      return op->flags & PYC_OP_OPTIONAL ? 0 : child_fail (c, PYC_STEP_MOUNT, e, target);
    }
  if (proc)
    c->proc = (int)fd;
  else
    sys (close, fd);
  return 0;
}

static int
bind_mount (struct child *c, const struct pyc_op *op)
{
  const char *target = plan_text (c->start->plan, op->b);
  char source[32];
  long at, fd;
  long e;

  slot_path (source, op->slot);
  at = root_make (c->root, target, (op->flags & PYC_OP_IS_FILE) != 0);
  if (at < 0)
    return child_fail (c, PYC_STEP_BIND, at, target);
  fd = op->slot >= 0 ? mount_clone (AT_FDCWD, source, true) : mount_clone (AT_FDCWD, plan_text (c->start->plan, op->a), true);
  e = fd < 0 ? fd : 0;
  if (e == 0 && op->x)
    e = mount_restrict ((int)fd, op->x, true);
  if (e == 0)
    e = mount_place ((int)fd, (int)at);
  sys (close, at);
  if (fd >= 0)
    sys (close, fd);
  return e ? child_fail (c, PYC_STEP_BIND, e, target) : 0;
}

static int
devices (struct child *c, const struct pyc_op *op)
{
  static const char OPTIONS[] = "mode=755\0size=65536k\0";
  long at = root_make (c->root, "dev", false);
  long fd = -1;
  long e = at < 0 ? at : 0;

  if (e == 0)
    {
      sys (close, at);
      at = root_open (c->root, "dev", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
      e = at < 0 ? at : 0;
    }
  if (e == 0)
    {
      fd = mount_new ("tmpfs", "tmpfs", OPTIONS, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
      e = fd < 0 ? fd : mount_place ((int)fd, (int)at);
      sys (close, at);
    }
  if (e == 0)
    e = devices_fill ((int)fd, (op->flags & PYC_OP_HOST_DEVICES) != 0);
  if (e == 0 && c->start->devpts >= 0)
    {
      at = sys (openat, fd, "pts", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
      e = at < 0 ? at : mount_place (c->start->devpts, (int)at);
      sys (close, at);
    }
  c->dev = (int)fd;
  return e ? child_fail (c, PYC_STEP_DEVICES, e, "/dev") : 0;
}

/* Docker gives a terminal's container its terminal as /dev/console. */
static int
console (struct child *c)
{
  long at, tree, e;
  if (c->start->slave < 0 || c->dev < 0)
    return 0;
  at = sys (openat, c->dev, "console", O_CREAT | O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
  tree = mount_clone (c->start->devpts, "0", false);
  e = at < 0 ? at : tree < 0 ? tree : mount_place ((int)tree, (int)at);
  if (at >= 0)
    sys (close, at);
  if (tree >= 0)
    sys (close, tree);
  return e ? child_fail (c, PYC_STEP_DEVICES, e, "/dev/console") : 0;
}

static int
device (struct child *c, const struct pyc_op *op)
{
  const char *path = plan_text (c->start->plan, op->b);
  const char *name = path;
  char parent[SELF_PATH_MAX];
  long dir, e;

  for (const char *p = path; *p; p++)
    if (*p == '/')
      name = p + 1;
  if (text_copy (parent, sizeof parent, path) + 1 >= sizeof parent)
    return child_fail (c, PYC_STEP_DEVICES, -ENAMETOOLONG, path);
  parent[name - path] = 0;
  dir = root_make (c->root, parent, false);
  e = dir < 0 ? dir
              : device_make ((int)dir, name, (uint32_t)op->x, op->y,
                             op->flags & PYC_OP_HOST_DEVICES ? plan_text (c->start->plan, op->a) : 0);
  if (e == 0 && !(op->flags & PYC_OP_HOST_DEVICES))
    sys (fchmodat, dir, name, op->x & 07777);
  if (dir >= 0)
    sys (close, dir);
  return e && e != -EEXIST ? child_fail (c, PYC_STEP_DEVICES, e, path) : 0;
}

/* A file of the container's own that no layer holds: made in /dev's tmpfs, bound, and its name there taken away. */
static int
file_bind (struct child *c, const struct pyc_op *op)
{
  const char *target = plan_text (c->start->plan, op->a);
  const char *content = plan_text (c->start->plan, op->b);
  long at = root_make (c->root, target, true);
  long tree = -1;
  long fd, e;

  if (at < 0)
    return op->flags & PYC_OP_OPTIONAL ? 0 : child_fail (c, PYC_STEP_FILE, at, target);
  fd = sys (openat, c->dev, ".file", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
  e = fd < 0 ? fd : 0;
  if (e == 0)
    {
      e = sys (write, fd, content, strlen (content));
      sys (fchmod, fd, 0644);
      sys (close, fd);
      tree = mount_clone (c->dev, ".file", false);
      e = e < 0 ? e : tree < 0 ? tree : mount_place ((int)tree, (int)at);
      sys (unlinkat, c->dev, ".file", 0);
    }
  sys (close, at);
  if (tree >= 0)
    sys (close, tree);
  return e ? child_fail (c, PYC_STEP_FILE, e, target) : 0;
}

/* A file is covered by /dev/null, a directory by one empty read-only tmpfs that all of them share. */
static int
mask (struct child *c, const struct pyc_op *op)
{
  static const char OPTIONS[] = "mode=755\0size=4k\0";
  const char *path = plan_text (c->start->plan, op->a);
  struct stat st;
  long tree, e;
  long at = root_open (c->root, path, O_PATH | O_NOFOLLOW, op->flags & PYC_OP_OPTIONAL ? 0 : RESOLVE_NO_SYMLINKS);

  if (at == -ENOENT || at == -ENOTDIR || at == -ELOOP)
    return 0;
  e = at < 0 ? at : sys (newfstatat, at, "", &st, AT_EMPTY_PATH);
  if (e == 0 && S_ISDIR (st.st_mode))
    {
      tree = c->mask >= 0 ? mount_clone (c->mask, "", false)
                          : mount_new ("tmpfs", "tmpfs", OPTIONS, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
      e = tree < 0 ? tree : mount_place ((int)tree, (int)at);
      if (c->mask < 0 && e == 0)
        c->mask = (int)tree;
      else if (tree >= 0)
        sys (close, tree);
    }
  else if (e == 0 && !S_ISLNK (st.st_mode))
    {
      tree = mount_clone (c->dev, "null", false);
      e = tree < 0 ? tree : mount_place ((int)tree, (int)at);
      if (tree >= 0)
        sys (close, tree);
    }
  if (at >= 0)
    sys (close, at);
  return e ? child_fail (c, PYC_STEP_MASK, e, path) : 0;
}

static int
readonly (struct child *c, const struct pyc_op *op)
{
  const char *path = plan_text (c->start->plan, op->a);
  long at, tree, e;

  if (!*path)
    {
      e = mount_restrict (c->root, MOUNT_ATTR_RDONLY, false);
      return e ? child_fail (c, PYC_STEP_ROOT, e, "/") : 0;
    }
  at = root_open (c->root, path, O_PATH, RESOLVE_NO_SYMLINKS);

  if (at == -ENOENT || at == -ENOTDIR || at == -ELOOP)
    return 0;
  tree = at < 0 ? at : mount_clone ((int)at, "", true);
  e = tree < 0 ? tree : mount_restrict ((int)tree, MOUNT_ATTR_RDONLY, true);
  if (e == 0)
    e = mount_place ((int)tree, (int)at);
  if (at >= 0)
    sys (close, at);
  if (tree >= 0)
    sys (close, tree);
  return e ? child_fail (c, PYC_STEP_MASK, e, path) : 0;
}

static int
directory_make (struct child *c, const struct pyc_op *op)
{
  const char *path = plan_text (c->start->plan, op->a);
  long fd = root_make (c->root, path, false);
  if (fd >= 0)
    sys (close, fd);
  return fd < 0 ? child_fail (c, PYC_STEP_WORKDIR, fd, path) : 0;
}

/* An overlay of its own over one directory: the host's root, which a user namespace can't take whole, comes so. */
static int
subroot (struct child *c, const struct pyc_op *op)
{
  const char *target = plan_text (c->start->plan, op->b);
  char source[32];
  long at, fd, e;

  slot_path (source, op->slot);
  at = root_make (c->root, target, false);
  fd = at < 0 ? at : mount_clone (AT_FDCWD, source, false);
  e = fd < 0 ? fd : mount_place ((int)fd, (int)at);
  if (at >= 0)
    sys (close, at);
  if (fd >= 0)
    sys (close, fd);
  return e ? child_fail (c, PYC_STEP_ROOT, e, target) : 0;
}

static int
limit (struct child *c, const struct pyc_op *op)
{
  struct rlimit64 value = { op->x, op->y };
  long e = sys (prlimit64, 0, (long)op->slot, &value, 0);
  return e ? child_fail (c, PYC_STEP_LIMIT, e, plan_text (c->start->plan, op->a)) : 0;
}

static int
oom_score (struct child *c, const struct pyc_op *op)
{
  long e = file_write (c->proc, "self/oom_score_adj", plan_text (c->start->plan, op->a));
  return e && !(op->flags & PYC_OP_OPTIONAL) ? child_fail (c, PYC_STEP_LIMIT, e, "oom_score_adj") : 0;
}

int
child_op (struct child *c, const struct pyc_op *op)
{
  const struct plan *p = c->start->plan;
  long e;
  switch (op->code)
    {
    case PYC_OP_CGROUP_JOIN:
      return cgroup_join (c, op);
    case PYC_OP_ROOT:
      return root_mount (c, op);
    case PYC_OP_MOUNT:
      return fs_mount (c, op);
    case PYC_OP_BIND:
      return bind_mount (c, op);
    case PYC_OP_DEVICES:
      return devices (c, op) ? -1 : console (c);
    case PYC_OP_DEVICE:
      return device (c, op);
    case PYC_OP_FILE:
      return file_bind (c, op);
    case PYC_OP_MASK:
      return mask (c, op);
    case PYC_OP_READONLY:
      return readonly (c, op);
    case PYC_OP_MKDIR:
      return directory_make (c, op);
    case PYC_OP_SUBROOT:
      return subroot (c, op);
    case PYC_OP_SYSCTL:
      e = file_write (c->proc, plan_text (p, op->a), plan_text (p, op->b));
      return e ? child_fail (c, PYC_STEP_SYSCTL, e, plan_text (p, op->a)) : 0;
    case PYC_OP_HOSTNAME:
      e = sys (sethostname, plan_text (p, op->a), strlen (plan_text (p, op->a)));
      return e ? child_fail (c, PYC_STEP_HOSTNAME, e, plan_text (p, op->a)) : 0;
    case PYC_OP_DOMAINNAME:
      e = sys (setdomainname, plan_text (p, op->a), strlen (plan_text (p, op->a)));
      return e ? child_fail (c, PYC_STEP_HOSTNAME, e, plan_text (p, op->a)) : 0;
    case PYC_OP_LIMIT:
      return limit (c, op);
    case PYC_OP_OOM_SCORE:
      return oom_score (c, op);
    default:
      return child_fail (c, PYC_STEP_PLAN, -EINVAL, "op");
    }
}

/* pivot_root(2): with both names "." the old root is stacked below the new one, and then detached. */
int
pivot (struct child *c)
{
  long e = sys (fchdir, c->root);
  if (e == 0)
    e = sys (pivot_root, ".", ".");
  if (e == 0)
    e = sys (umount2, ".", 2 /* MNT_DETACH */);
  if (e == 0)
    e = sys (chdir, "/");
  return e ? child_fail (c, PYC_STEP_PIVOT, e, "/") : 0;
}
