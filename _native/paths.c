/* Paths resolved inside a root directory: see paths.h. */
#include "paths.h"

#include <linux/errno.h>
#include <linux/openat2.h>

#include "memory.h"
#include "syscalls.h"

enum
{
  LINKS_MAX = 40, /* symlinks in one path, as the kernel has it */
  RETRIES = 8,    /* of openat2, which fails with EAGAIN when a rename anywhere passes by */
  REST_MAX = 2 * ARCHIVE_PATH_MAX
};

void
path_close (int *fd)
{
  if (*fd >= 0)
    sys (close, *fd);
  *fd = -1;
}

int
archive_fail (struct archive_error *error, int step, int rc, const char *path)
{
  error->error = -rc;
  error->step = step;
  text_copy (error->path, sizeof error->path, path);
  return rc;
}

const char *
archive_step_name (int step)
{
  static const char *const names[]
      = { "nothing", "read",     "archive format", "limit",     "path leads out", "path",   "create", "write", "chown",
          "chmod",   "set time", "set xattr",      "hard link", "mknod",          "remove", "open",   "list",  "output" };
  if (step < 0 || (size_t)step >= sizeof names / sizeof *names)
    return "unknown step";
  return names[step];
}

long
path_read (int fd, void *to, size_t size)
{
  long rc;
  do
    rc = sys (read, fd, to, size);
  while (rc == -EINTR);
  return rc;
}

long
path_write (int fd, const void *from, size_t size)
{
  const char *p = from;
  size_t left = size;
  while (left > 0)
    {
      long rc = sys (write, fd, p, left);
      if (rc == -EINTR)
        continue;
      if (rc <= 0)
        return rc < 0 ? rc : -EIO;
      p += rc;
      left -= (size_t)rc;
    }
  return (long)size;
}

int
path_is_dots (const char *name)
{
  return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

int
path_is_whiteout (const struct statx *st)
{
  return S_ISCHR (st->stx_mode) && st->stx_rdev_major == 0 && st->stx_rdev_minor == 0;
}

int
path_is_mount (const struct statx *st)
{
  return (st->stx_attributes & st->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0;
}

int
path_stat (int dir, const char *name, struct statx *st)
{
  unsigned mask = STATX_BASIC_STATS | STATX_MNT_ID;
  return (int)sys (statx, dir, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT, mask, st);
}

int
path_same_mount (const struct statx *a, const struct statx *b)
{
  if (a->stx_mask & b->stx_mask & STATX_MNT_ID)
    return a->stx_mnt_id == b->stx_mnt_id;
  /* Before Linux 5.8: files of an overlayfs may have different devices within one mount, its directories have not. */
  if (!S_ISDIR (a->stx_mode) || !S_ISDIR (b->stx_mode))
    return 1;
  return a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor;
}

int
path_same_file (const struct statx *a, const struct statx *b)
{
  return a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major && a->stx_dev_minor == b->stx_dev_minor;
}

int
path_reopen (int fd, int flags)
{
  char link[40];
  size_t n = text_copy (link, sizeof link, "/proc/self/fd/");
  text_number (link + n, (uint64_t)fd);
  long rc;
  do
    rc = sys (openat, AT_FDCWD, link, flags | O_CLOEXEC, 0);
  while (rc == -EINTR);
  return (int)rc;
}

static void
overlay_name (char *to, size_t size, const char *what, int userxattr)
{
  size_t n = text_copy (to, size, userxattr ? "user.overlay." : "trusted.overlay.");
  text_copy (to + n, size - n, what);
}

int
path_overlay_mark (int fd, const char *what, int userxattr)
{
  char name[48];
  char value[4];
  overlay_name (name, sizeof name, what, userxattr);
  long rc = sys (fgetxattr, fd, name, value, sizeof value);
  return rc == 1 ? value[0] : 0;
}

int
path_set_overlay_mark (int fd, const char *what, char value, int userxattr)
{
  char name[48];
  overlay_name (name, sizeof name, what, userxattr);
  return (int)sys (fsetxattr, fd, name, &value, 1, 0);
}

int
path_xattr_is_portable (const char *name)
{
  if (text_starts (name, "user."))
    return name[5] != '\0' && !text_starts (name, "user.overlay.");
  return strcmp (name, "security.capability") == 0 || strcmp (name, "system.posix_acl_access") == 0
         || strcmp (name, "system.posix_acl_default") == 0;
}

/* A path on its way, for kernels and filters without openat2. */
struct walk
{
  int root;
  int at; /* the directory reached, O_PATH; never below 0 */
  unsigned how;
  unsigned links;
  size_t done_size;
  size_t rest_size;
  char done[ARCHIVE_PATH_MAX + 1]; /* the way to `at` from the root: plain directories, each with its slash */
  char rest[REST_MAX + 1];         /* what is still to go, at the end of the array */
};

static int
open_component (int dir, const char *name)
{
  long rc;
  do
    rc = sys (openat, dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
  while (rc == -EINTR);
  return (int)rc;
}

/* Goes to the directory w->done again, from the root: a descriptor's own `..` may lead out by now. */
static int
walk_again (struct walk *w)
{
  CLOSED int at = open_component (w->root, ".");
  for (size_t i = 0; at >= 0 && i < w->done_size;)
    {
      char *name = w->done + i;
      size_t n = (size_t)((char *)memchr (name, '/', w->done_size - i) - name);
      name[n] = '\0';
      int next = open_component (at, name);
      name[n] = '/';
      path_close (&at);
      at = next;
      i += n + 1;
    }
  if (at < 0)
    return at;
  path_close (&w->at);
  w->at = path_steal (&at);
  return 0;
}

static int
walk_up (struct walk *w)
{
  if (w->done_size == 0)
    return 0;
  w->done_size--;
  while (w->done_size > 0 && w->done[w->done_size - 1] != '/')
    w->done_size--;
  return walk_again (w);
}

/* Puts a symlink's target before the rest of the way. */
static int
walk_link (struct walk *w, int link)
{
  char target[ARCHIVE_PATH_MAX + 1];
  if (++w->links > LINKS_MAX || (w->how & PATH_NO_LINKS))
    return -ELOOP;
  long n = sys (readlinkat, link, "", target, sizeof target);
  if (n < 0)
    return (int)n;
  if (n == 0)
    return -ENOENT;
  if ((size_t)n + 1 + w->rest_size > REST_MAX)
    return -ENAMETOOLONG;
  if (w->rest_size > 0)
    w->rest[REST_MAX - ++w->rest_size] = '/';
  w->rest_size += (size_t)n;
  memcpy (w->rest + REST_MAX - w->rest_size, target, (size_t)n);
  if (target[0] != '/')
    return 0;
  w->done_size = 0;
  return walk_again (w);
}

static int
walk_into (struct walk *w, int *fd, const char *name, size_t n)
{
  if (w->done_size + n + 1 > ARCHIVE_PATH_MAX)
    return -ENAMETOOLONG;
  memcpy (w->done + w->done_size, name, n);
  w->done[w->done_size + n] = '/';
  w->done_size += n + 1;
  path_close (&w->at);
  w->at = path_steal (fd);
  return 0;
}

/* Takes one component off the rest. Returns 0 if more follow, 1 if `name` is the last one, 2 if it is the last one and a
   slash follows, -ENOENT if there was none. */
static int
walk_name (struct walk *w, char *name, size_t size)
{
  char *rest = w->rest + REST_MAX - w->rest_size;
  while (w->rest_size > 0 && *rest == '/')
    {
      rest++;
      w->rest_size--;
    }
  size_t n = 0;
  while (n < w->rest_size && rest[n] != '/')
    n++;
  if (n == 0)
    return -ENOENT;
  if (n >= size)
    return -ENAMETOOLONG;
  memcpy (name, rest, n);
  name[n] = '\0';
  w->rest_size -= n;
  rest += n;
  for (size_t i = 0; i < w->rest_size; i++)
    if (rest[i] != '/')
      return 0;
  return w->rest_size > 0 ? 2 : 1;
}

/* One component. Returns 1 when *found is what the path names, 0 to go on, -errno. */
static int
walk_step (struct walk *w, const char *name, int last, int *found)
{
  if (strcmp (name, ".") == 0)
    return 0;
  if (strcmp (name, "..") == 0)
    return walk_up (w);
  CLOSED int fd = open_component (w->at, name);
  if (fd == -ENOENT && (w->how & PATH_MAKE_DIRS))
    {
      long rc = sys (mkdirat, w->at, name, 0755);
      if (rc < 0 && rc != -EEXIST)
        return (int)rc;
      fd = open_component (w->at, name);
    }
  if (fd < 0)
    return fd;
  struct statx st;
  int rc = path_stat (fd, "", &st);
  if (rc < 0)
    return rc;
  if (S_ISLNK (st.stx_mode) && !(last == 1 && (w->how & PATH_NO_FOLLOW)))
    return walk_link (w, fd);
  if (S_ISDIR (st.stx_mode))
    return walk_into (w, &fd, name, strlen (name));
  if (last != 1 || (w->how & (PATH_DIRECTORY | PATH_MAKE_DIRS)))
    return -ENOTDIR;
  *found = path_steal (&fd);
  return 1;
}

static int
walk_path (struct walk *w, const char *path)
{
  w->rest_size = strlen (path);
  if (w->rest_size > ARCHIVE_PATH_MAX)
    return -ENAMETOOLONG;
  memcpy (w->rest + REST_MAX - w->rest_size, path, w->rest_size);
  for (;;)
    {
      char name[256];
      int last = walk_name (w, name, sizeof name);
      if (last == -ENOENT)
        return path_steal (&w->at);
      if (last < 0)
        return last;
      int found = -1;
      int rc = walk_step (w, name, last, &found);
      if (rc != 0)
        return rc < 0 ? rc : found;
    }
}

static int
open_by_walk (int root, const char *path, unsigned how)
{
  struct walk w;
  w.root = root;
  w.how = how;
  w.links = 0;
  w.done_size = 0;
  w.at = open_component (root, ".");
  if (w.at < 0)
    return w.at;
  int rc = walk_path (&w, path);
  path_close (&w.at);
  return rc;
}

int
path_open (int root, const char *path, unsigned how)
{
  static int no_openat2;
  struct open_how open_how;
  memset (&open_how, 0, sizeof open_how);
  open_how.flags = O_PATH | O_CLOEXEC;
  open_how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  if (how & (PATH_DIRECTORY | PATH_MAKE_DIRS))
    open_how.flags |= O_DIRECTORY;
  if (how & PATH_NO_FOLLOW)
    open_how.flags |= O_NOFOLLOW;
  if (how & PATH_NO_LINKS)
    open_how.resolve |= RESOLVE_NO_SYMLINKS;
  if (path[0] == '\0')
    path = ".";
  for (int i = 0; i < RETRIES && !no_openat2; i++)
    {
      long rc = sys (openat2, root, path, &open_how, sizeof open_how);
      if (rc == -ENOSYS || rc == -EPERM)
        no_openat2 = rc == -ENOSYS;
      else if (rc == -ENOENT && (how & PATH_MAKE_DIRS))
        break;
      else if (rc != -EAGAIN && rc != -EINTR)
        return (int)rc;
      if (rc == -EPERM)
        break;
    }
  return open_by_walk (root, path, how);
}
