/* The mounts of a container: each is made detached, then put in place by descriptor, so that no path is walked twice. */
#include "mounts.h"

#include <linux/mount.h>
#include <linux/stat.h>
#include <sys/sysmacros.h>

static struct mount_attr
attributes (uint64_t set)
{
  struct mount_attr a = { .attr_set = set };
  return a;
}

long
root_open (int root, const char *path, int flags, uint64_t resolve)
{
  struct open_how how
      = { .flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve };
  long fd;
  int tries = 0;
  do
    fd = sys (openat2, root, path, &how, sizeof how);
  while ((fd == -EAGAIN || fd == -EINTR) && ++tries < 1000);
  return fd;
}

/* Makes the missing last component `name` of a path below the directory `parent`. */
static long
make_one (int parent, const char *name, bool file)
{
  if (!file)
    {
      long e = sys (mkdirat, parent, name, 0755);
      return e == -EEXIST ? 0 : e;
    }
  long fd = sys (openat, parent, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd >= 0)
    sys (close, fd);
  return fd < 0 && fd != -EEXIST ? fd : 0;
}

long
root_make (int root, const char *path, bool file)
{
  char prefix[SELF_PATH_MAX];
  usize length = 0;
  long fd = root_open (root, path, O_PATH, 0);
  long parent;

  if (fd != -ENOENT)
    return fd;
  parent = sys (openat, root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  while (parent >= 0)
    {
      usize start;
      while (path[length] == '/')
        length++;
      start = length;
      while (path[length] && path[length] != '/')
        length++;
      usize rest = length;
      while (path[rest] == '/')
        rest++;
      bool last = path[rest] == 0;
      if (length == start)
        break;
      if (length >= sizeof prefix)
        {
          fd = -ENAMETOOLONG;
          break;
        }
      memcpy (prefix, path, length);
      prefix[length] = 0;
      fd = root_open (root, prefix, O_PATH | (last ? 0 : O_DIRECTORY), 0);
      if (fd == -ENOENT)
        {
          fd = make_one ((int)parent, prefix + start, file && last);
          if (fd == 0)
            fd = root_open (root, prefix, O_PATH | (last ? 0 : O_DIRECTORY), 0);
        }
      sys (close, parent);
      parent = -1;
      if (fd < 0 || last)
        break;
      parent = fd;
    }
  if (parent >= 0)
    sys (close, parent);
  return fd;
}

long
mount_place (int mount, int target)
{
  return sys (move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* `options` is a list of "key=value" and "key". */
long
mount_new (const char *type, const char *source, const char *options, uint64_t attrs)
{
  long fs = sys (fsopen, type, FSOPEN_CLOEXEC);
  long e = 0;
  long fd;

  if (fs < 0)
    return fs;
  if (*source)
    e = sys (fsconfig, fs, FSCONFIG_SET_STRING, "source", source, 0);
  for (; *options && e == 0; options = list_next (options))
    {
      char key[64];
      usize n = 0;
      while (options[n] && options[n] != '=')
        n++;
      if (n >= sizeof key)
        e = -EINVAL;
      else
        {
          memcpy (key, options, n);
          key[n] = 0;
          e = options[n] ? sys (fsconfig, fs, FSCONFIG_SET_STRING, key, options + n + 1, 0)
                         : sys (fsconfig, fs, FSCONFIG_SET_FLAG, key, 0, 0);
        }
    }
  if (e == 0)
    e = sys (fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
  fd = e ? e : sys (fsmount, fs, FSMOUNT_CLOEXEC, attrs);
  sys (close, fs);
  return fd;
}

long
mount_clone (int at, const char *path, bool recursive)
{
  return sys (open_tree, at, path,
              OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (*path ? 0 : AT_EMPTY_PATH) | (recursive ? 0x8000 /* AT_RECURSIVE */ : 0));
}

long
mount_restrict (int mount, uint64_t attrs, bool recursive)
{
  struct mount_attr a = attributes (attrs);
  return sys (mount_setattr, mount, "", AT_EMPTY_PATH | (recursive ? 0x8000 : 0), &a, sizeof a);
}

long
mount_spread (int mount, uint64_t propagation)
{
  struct mount_attr a = { .propagation = propagation };
  return sys (mount_setattr, mount, "", AT_EMPTY_PATH | 0x8000, &a, sizeof a);
}

/* Kernels before 6.7 take lower directories in one text only (a page at most), through mount(2). */
static long
overlay_classic (const char *lowers, const char *upper, const char *work, uint32_t flags)
{
  char options[4096] = "lowerdir=";
  usize n = strlen (options);
  long e;

  for (const char *l = lowers; *l; l = list_next (l))
    {
      if (n + strlen (l) + 2 + strlen (upper) + strlen (work) + 64 > sizeof options)
        return -E2BIG;
      if (l != lowers)
        options[n++] = ':';
      n += text_copy (options + n, sizeof options - n, l);
    }
  n += text_copy (options + n, sizeof options - n, ",upperdir=");
  n += text_copy (options + n, sizeof options - n, upper);
  n += text_copy (options + n, sizeof options - n, ",workdir=");
  n += text_copy (options + n, sizeof options - n, work);
  if (flags & PYC_OP_USERXATTR)
    n += text_copy (options + n, sizeof options - n, ",userxattr");
  if (flags & PYC_OP_VOLATILE)
    n += text_copy (options + n, sizeof options - n, ",volatile");
  e = sys (mount, "overlay", "mnt", "overlay", 0, options);
  if (e)
    return e;
  e = mount_clone (AT_FDCWD, "mnt", false);
  sys (umount2, "mnt", 2 /* MNT_DETACH */);
  return e;
}

/* redirect_dir and metacopy off: a write layer must hold what diff and commit read from it. */
long
mount_overlay (const char *lowers, const char *upper, const char *work, uint32_t flags)
{
  long fs = sys (fsopen, "overlay", FSOPEN_CLOEXEC);
  long e = 0;
  long fd;

  if (fs < 0)
    return fs;
  sys (fsconfig, fs, FSCONFIG_SET_STRING, "source", "overlay", 0);
  for (const char *l = lowers; *l && e == 0; l = list_next (l))
    e = sys (fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", l, 0);
  if (e == -EINVAL)
    {
      sys (close, fs);
      return overlay_classic (lowers, upper, work, flags);
    }
  if (*upper && e == 0)
    e = sys (fsconfig, fs, FSCONFIG_SET_STRING, "upperdir", upper, 0);
  if (*upper && e == 0)
    e = sys (fsconfig, fs, FSCONFIG_SET_STRING, "workdir", work, 0);
  if (e == 0 && (flags & PYC_OP_USERXATTR))
    e = sys (fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", 0, 0);
  else if (e == 0)
    {
      sys (fsconfig, fs, FSCONFIG_SET_STRING, "redirect_dir", "nofollow", 0);
      sys (fsconfig, fs, FSCONFIG_SET_STRING, "metacopy", "off", 0);
    }
  if (e == 0 && *upper && (flags & PYC_OP_VOLATILE))
    e = sys (fsconfig, fs, FSCONFIG_SET_FLAG, "volatile", 0, 0);
  if (e == 0)
    e = sys (fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0);
  fd = e ? e : sys (fsmount, fs, FSMOUNT_CLOEXEC, 0);
  sys (close, fs);
  return fd;
}

static const struct
{
  const char *name;
  uint16_t major;
  uint16_t minor;
} DEVICES[]
    = { { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 } };

static const struct
{
  const char *name;
  const char *text;
} LINKS[] = { { "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
              { "stderr", "/proc/self/fd/2" }, { "core", "/proc/kcore" },      { "ptmx", "pts/ptmx" } };

long
device_make (int dir, const char *name, uint32_t mode, uint64_t number, const char *host)
{
  long fd;
  long e;

  if (!host)
    return sys (mknodat, dir, name, mode, number);
  fd = sys (openat, dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return fd;
  e = mount_clone (AT_FDCWD, host, false);
  if (e >= 0)
    {
      long tree = e;
      e = mount_place ((int)tree, (int)fd);
      sys (close, tree);
    }
  sys (close, fd);
  return e;
}

/* In a user namespace mknod is refused (user_namespaces(7)), so there the host's nodes are bound. */
long
devices_fill (int dev, bool host_devices)
{
  long e;
  for (usize i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++)
    {
      char host[32] = "/dev/";
      text_copy (host + 5, sizeof host - 5, DEVICES[i].name);
      e = device_make (dev, DEVICES[i].name, S_IFCHR | 0666, makedev (DEVICES[i].major, DEVICES[i].minor),
                       host_devices ? host : 0);
      if (e)
        return e;
    }
  for (usize i = 0; i < sizeof LINKS / sizeof *LINKS; i++)
    sys (symlinkat, LINKS[i].text, dev, LINKS[i].name);
  sys (mkdirat, dev, "pts", 0755);
  sys (mkdirat, dev, "shm", 01777);
  sys (mkdirat, dev, "mqueue", 0755);
  return 0;
}
