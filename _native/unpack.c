/* Unpacking: entries of a tar stream become files below a root. See archive.h. */
#include <linux/errno.h>
#include <linux/memfd.h>

#include "memory.h"
#include "paths.h"
#include "syscalls.h"
#include "tar.h"

#ifndef __NR_fchmodat2
#  define __NR_fchmodat2 452
#endif

enum
{
  DIRS = 64,  /* directories kept open */
  TRIES = 16, /* to make an entry while something else keeps taking its place */
  NAME_MAX = 255,
  TIMES_SIZE = 262144
};

/* A directory kept open, by its clean path. */
struct dir
{
  int fd;
  uint32_t hash;
  uint64_t used; /* by this count of uses the oldest one is found */
  size_t size;
  char path[ARCHIVE_PATH_MAX + 1];
};

/* A directory's time, set at the end since every entry made in it changes it; its path follows. */
struct dir_time
{
  int64_t seconds;
  uint32_t nanoseconds;
  uint32_t size;
};

/* As many as fit; more go to a file. */
struct dir_times
{
  size_t used;
  char records[TIMES_SIZE - sizeof (size_t)];
};

struct unpacker
{
  int root;
  const struct unpack_options *options;
  struct unpack_result *result;
  uint64_t uses;
  struct dir *recent;
  int parent;       /* where the current entry goes, owned by a dir; -1 for the root itself */
  const char *name; /* its last component */
  size_t path_size;
  int spill;        /* a file without a name for full dir_times; -1 if none was needed */
  int hid_whiteout; /* what the current entry replaced was a whiteout */
  size_t base_size;
  char base[ARCHIVE_PATH_MAX + 1];
  char path[ARCHIVE_PATH_MAX + 1];
  char target[ARCHIVE_PATH_MAX + 1];
  struct dir dir[DIRS];
  struct dir_times times;
  struct tar_reader reader;
};

static struct unpacker unpacker;

static int
fail (struct unpacker *u, int step, int rc)
{
  return archive_fail (&u->result->error, step, rc, u->reader.entry.path);
}

static int
flag (const struct unpacker *u, uint32_t which)
{
  return (u->options->flags & which) != 0;
}

/* Directories on the way. */

static uint32_t
hash_path (const char *path, size_t size)
{
  uint32_t h = 2166136261u;
  for (size_t i = 0; i < size; i++)
    h = (h ^ (unsigned char)path[i]) * 16777619u;
  return h;
}

static struct dir *
dir_find (struct unpacker *u, const char *path, size_t size, uint32_t hash)
{
  for (size_t i = 0; i < DIRS; i++)
    {
      struct dir *d = &u->dir[i];
      if (d->fd >= 0 && d->hash == hash && d->size == size && memcmp (d->path, path, size) == 0)
        return d;
    }
  return NULL;
}

/* Keeps fd open for path, in place of the one that was not used for the longest time. */
static struct dir *
dir_keep (struct unpacker *u, const char *path, size_t size, int fd)
{
  uint32_t hash = hash_path (path, size);
  struct dir *d = dir_find (u, path, size, hash);
  for (size_t i = 0; d == NULL && i < DIRS; i++)
    if (u->dir[i].fd < 0)
      d = &u->dir[i];
  if (d == NULL)
    {
      d = &u->dir[0];
      for (size_t i = 1; i < DIRS; i++)
        if (u->dir[i].used < d->used)
          d = &u->dir[i];
    }
  path_close (&d->fd);
  d->fd = fd;
  d->hash = hash;
  d->used = ++u->uses;
  d->size = size;
  memcpy (d->path, path, size);
  d->path[size] = '\0';
  return d;
}

/* Forgets all: a directory or a symlink on somebody's way was replaced. */
static void
dirs_forget (struct unpacker *u)
{
  for (size_t i = 0; i < DIRS; i++)
    path_close (&u->dir[i].fd);
  u->recent = NULL;
}

/* Opens the directory path[0..size), which stays open as long as it is used. Returns a descriptor owned by u. */
static int
dir_open (struct unpacker *u, const char *path, size_t size, unsigned how)
{
  struct dir *d = u->recent;
  if (d == NULL || d->size != size || memcmp (d->path, path, size) != 0)
    d = dir_find (u, path, size, hash_path (path, size));
  if (d == NULL)
    {
      char text[ARCHIVE_PATH_MAX + 1];
      memcpy (text, path, size);
      text[size] = '\0';
      int fd = path_open (u->root, text, how);
      if (fd < 0)
        return fd;
      d = dir_keep (u, path, size, fd);
    }
  d->used = ++u->uses;
  u->recent = d;
  return d->fd;
}

/* Where the last component of a clean path starts. */
static size_t
name_start (const char *path, size_t size)
{
  while (size > 0 && path[size - 1] != '/')
    size--;
  return size;
}

/* Puts one component behind a clean path, or takes one off for `..`, but none of the first `least` bytes. Returns the new
   size, or -errno. */
static long
add_component (char *to, size_t size, size_t least, const char *name, size_t n)
{
  if (n == 1 && name[0] == '.')
    return (long)size;
  if (n == 2 && name[0] == '.' && name[1] == '.')
    {
      if (size == least)
        return -EXDEV;
      size = name_start (to, size);
      return (long)(size > 0 ? size - 1 : 0);
    }
  if (n > NAME_MAX || size + 1 + n > ARCHIVE_PATH_MAX)
    return -ENAMETOOLONG;
  if (size > 0)
    to[size++] = '/';
  memcpy (to + size, name, n);
  return (long)(size + n);
}

/* Puts a path behind the clean one to[0..size): without what says nothing (slashes, `.`), with `..` resolved. Returns the
   size, or -errno. */
static long
clean_path (char *to, size_t size, const char *from)
{
  size_t least = size;
  for (;;)
    {
      while (*from == '/')
        from++;
      size_t n = 0;
      while (from[n] != '\0' && from[n] != '/')
        n++;
      if (n == 0)
        break;
      long rc = add_component (to, size, least, from, n);
      if (rc < 0)
        return rc;
      size = (size_t)rc;
      from += n;
    }
  to[size] = '\0';
  return (long)size;
}

static int
locate (struct unpacker *u, char *path, const char *from, int *dir, const char **name, unsigned how)
{
  memcpy (path, u->base, u->base_size);
  long size = clean_path (path, u->base_size, from);
  if (size < 0)
    return fail (u, size == -EXDEV ? ARCHIVE_STEP_ESCAPE : ARCHIVE_STEP_LIMIT, (int)size);
  *dir = -1;
  *name = path + size;
  if ((size_t)size == u->base_size)
    return 0;
  size_t start = name_start (path, (size_t)size);
  *name = path + start;
  *dir = dir_open (u, path, start > 0 ? start - 1 : 0, how);
  return *dir < 0 ? fail (u, ARCHIVE_STEP_RESOLVE, *dir) : 0;
}

/* What was at the entry's place. */

/* Makes room for an entry, of a directory if `directory`. Returns 0, 1 if a directory may stay, 2 if a symlink to one or
   a mount point may and is not to be touched, -EBUSY for another mount point, another -errno with the error filled. */
static int
make_room (struct unpacker *u, int directory)
{
  struct statx st;
  int rc = path_stat (u->parent, u->name, &st);
  if (rc < 0)
    return rc == -ENOENT ? 0 : fail (u, ARCHIVE_STEP_CREATE, rc);
  int was_directory = S_ISDIR (st.stx_mode);
  int mounted = path_is_mount (&st);
  if (was_directory && directory)
    return mounted ? 2 : 1;
  if (directory && S_ISLNK (st.stx_mode) && flag (u, UNPACK_KEEP_DIR_LINKS))
    {
      CLOSED int fd = path_open (u->root, u->path, PATH_DIRECTORY);
      if (fd >= 0)
        return 2;
    }
  if (flag (u, UNPACK_SAME_KIND) && was_directory != directory)
    return fail (u, ARCHIVE_STEP_CREATE, was_directory ? -EISDIR : -ENOTDIR);
  /* Unlinking would succeed if it's mounted in another namespace than ours, and would unmount it there. */
  if (mounted)
    return -EBUSY;
  if (was_directory)
    {
      dirs_forget (u);
      u->parent = dir_open (u, u->path, u->name > u->path ? (size_t)(u->name - u->path) - 1 : 0, PATH_DIRECTORY);
      if (u->parent < 0)
        return fail (u, ARCHIVE_STEP_RESOLVE, u->parent);
      rc = tree_remove (u->parent, u->name, &u->result->error);
      return rc < 0 ? fail (u, ARCHIVE_STEP_REMOVE, rc) : 0;
    }
  rc = (int)sys (unlinkat, u->parent, u->name, 0);
  if (rc < 0 && rc != -ENOENT && rc != -EISDIR)
    return rc == -EBUSY ? rc : fail (u, ARCHIVE_STEP_REMOVE, rc);
  u->hid_whiteout |= path_is_whiteout (&st);
  if (!S_ISLNK (st.stx_mode))
    return 0;
  dirs_forget (u);
  u->parent = dir_open (u, u->path, u->name > u->path ? (size_t)(u->name - u->path) - 1 : 0, PATH_DIRECTORY);
  return u->parent < 0 ? fail (u, ARCHIVE_STEP_RESOLVE, u->parent) : 0;
}

/* The same for what is no directory: here a mount point is an error. */
static int
make_room_for_node (struct unpacker *u)
{
  int rc = make_room (u, 0);
  return rc == -EBUSY ? fail (u, ARCHIVE_STEP_REMOVE, rc) : rc;
}

/* Owner, attributes, mode and time. */

static int
set_xattrs (struct unpacker *u, int fd)
{
  const struct tar_entry *e = &u->reader.entry;
  for (size_t i = 0; i < e->xattrs; i++)
    {
      const struct tar_xattr *x = &e->xattr[i];
      long rc = -EPERM;
      if (fd >= 0 && path_xattr_is_portable (x->name))
        rc = sys (fsetxattr, fd, x->name, x->value, x->size, 0);
      if (rc == -EPERM || rc == -EOPNOTSUPP)
        u->result->skipped_xattrs++;
      else if (rc < 0)
        return fail (u, ARCHIVE_STEP_XATTR, (int)rc);
    }
  return 0;
}

/* Returns 0 if no owner is to be set. */
static int
owner_of (const struct unpacker *u, uint32_t *uid, uint32_t *gid)
{
  int one = flag (u, UNPACK_ONE_OWNER);
  *uid = one ? u->options->uid : u->reader.entry.uid;
  *gid = one ? u->options->gid : u->reader.entry.gid;
  return !flag (u, UNPACK_NO_OWNER);
}

/* Owner first: it takes the setuid bit and capabilities away. */
static int
set_attributes (struct unpacker *u, int fd)
{
  uint32_t uid;
  uint32_t gid;
  if (owner_of (u, &uid, &gid))
    {
      long rc = sys (fchown, fd, uid, gid);
      if (rc < 0)
        return fail (u, ARCHIVE_STEP_OWNER, (int)rc);
    }
  int rc = set_xattrs (u, fd);
  if (rc < 0)
    return rc;
  rc = (int)sys (fchmod, fd, u->reader.entry.mode);
  return rc < 0 ? fail (u, ARCHIVE_STEP_MODE, rc) : 0;
}

static int
set_time (struct unpacker *u, int dir, const char *name)
{
  const struct tar_entry *e = &u->reader.entry;
  struct __kernel_timespec times[2] = { { e->mtime, e->mtime_ns }, { e->mtime, e->mtime_ns } };
  long rc = sys (utimensat, dir, name, times, name != NULL ? AT_SYMLINK_NOFOLLOW : 0);
  return rc < 0 ? fail (u, ARCHIVE_STEP_TIME, (int)rc) : 0;
}

/* For symlinks and nodes, by name: these calls follow nothing. */
static int
set_node_attributes (struct unpacker *u)
{
  uint32_t uid;
  uint32_t gid;
  if (owner_of (u, &uid, &gid))
    {
      long rc = sys (fchownat, u->parent, u->name, uid, gid, AT_SYMLINK_NOFOLLOW);
      if (rc < 0)
        return fail (u, ARCHIVE_STEP_OWNER, (int)rc);
      /* mknod set the mode, and chown took these bits away; before Linux 6.6 they stay lost. */
      if ((u->reader.entry.mode & 07000) && u->reader.entry.type != TAR_SYMLINK)
        sys (fchmodat2, u->parent, u->name, u->reader.entry.mode, AT_SYMLINK_NOFOLLOW);
    }
  int rc = set_xattrs (u, -1);
  return rc < 0 ? rc : set_time (u, u->parent, u->name);
}

/* Times of directories. */

static int
times_open_spill (struct unpacker *u)
{
  if (u->spill < 0)
    u->spill = (int)sys (openat, u->root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (u->spill < 0)
    u->spill = (int)sys (memfd_create, "pycontainers-times", MFD_CLOEXEC);
  return u->spill;
}

static int
times_spill (struct unpacker *u)
{
  long rc = times_open_spill (u);
  if (rc >= 0)
    rc = path_write (u->spill, &u->times, sizeof u->times);
  if (rc < 0)
    return fail (u, ARCHIVE_STEP_TIME, (int)rc);
  u->times.used = 0;
  return 0;
}

static int
times_add (struct unpacker *u)
{
  const struct tar_entry *e = &u->reader.entry;
  struct dir_time t = { e->mtime, e->mtime_ns, (uint32_t)u->path_size };
  if (sizeof t + u->path_size > sizeof u->times.records - u->times.used)
    {
      int rc = times_spill (u);
      if (rc < 0)
        return rc;
    }
  memcpy (u->times.records + u->times.used, &t, sizeof t);
  memcpy (u->times.records + u->times.used + sizeof t, u->path, u->path_size);
  u->times.used += sizeof t + u->path_size;
  return 0;
}

/* Sets the time of the directory u->path, unless something else took its place. */
static int
times_set (struct unpacker *u, const struct dir_time *t)
{
  size_t start = name_start (u->path, t->size);
  int dir = dir_open (u, u->path, start > 0 ? start - 1 : 0, PATH_DIRECTORY);
  const char *name = t->size > 0 ? u->path + start : ".";
  CLOSED int fd = dir;
  if (fd >= 0)
    fd = (int)sys (openat, dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
    return 0;
  struct __kernel_timespec times[2] = { { t->seconds, t->nanoseconds }, { t->seconds, t->nanoseconds } };
  long rc = fd < 0 ? fd : sys (utimensat, fd, NULL, times, 0);
  return rc < 0 ? archive_fail (&u->result->error, ARCHIVE_STEP_TIME, (int)rc, u->path) : 0;
}

static int
times_set_block (struct unpacker *u)
{
  const char *p = u->times.records;
  const char *end = p + u->times.used;
  while (p < end)
    {
      struct dir_time t;
      memcpy (&t, p, sizeof t);
      memcpy (u->path, p + sizeof t, t.size);
      u->path[t.size] = '\0';
      int rc = times_set (u, &t);
      if (rc < 0)
        return rc;
      p += sizeof t + t.size;
    }
  return 0;
}

static int
times_finish (struct unpacker *u)
{
  if (u->spill < 0)
    return times_set_block (u);
  int rc = times_spill (u);
  if (rc < 0)
    return rc;
  sys (lseek, u->spill, 0, 0);
  for (;;)
    {
      size_t have = 0;
      while (have < sizeof u->times)
        {
          long n = path_read (u->spill, (char *)&u->times + have, sizeof u->times - have);
          if (n < 0)
            return fail (u, ARCHIVE_STEP_TIME, (int)n);
          if (n == 0)
            return 0;
          have += (size_t)n;
        }
      rc = times_set_block (u);
      if (rc < 0)
        return rc;
    }
}

/* The kinds of entries. */

static int
write_piece (struct unpacker *u, int fd, const char *data, size_t size, int64_t offset)
{
  while (size > 0)
    {
      long n = offset < 0 ? sys (write, fd, data, size) : sys (pwrite64, fd, data, size, offset);
      if (n == -EINTR)
        continue;
      if (n <= 0)
        return fail (u, ARCHIVE_STEP_WRITE, n < 0 ? (int)n : -EIO);
      data += n;
      size -= (size_t)n;
      offset += offset < 0 ? 0 : n;
      u->result->bytes += (uint64_t)n;
    }
  return 0;
}

static int
write_whole (struct unpacker *u, int fd)
{
  const char *data;
  long n;
  while ((n = tar_data (&u->reader, &data)) > 0)
    {
      int rc = write_piece (u, fd, data, (size_t)n, -1);
      if (rc < 0)
        return rc;
    }
  return (int)n;
}

static int
write_sparse (struct unpacker *u, int fd)
{
  const struct tar_entry *e = &u->reader.entry;
  const char *data = NULL;
  long have = 0;
  for (size_t i = 0; i < e->extents; i++)
    {
      struct tar_extent x = u->reader.extent[i];
      while (x.size > 0)
        {
          if (have == 0 && (have = tar_data (&u->reader, &data)) <= 0)
            return (int)have;
          size_t n = (uint64_t)have < x.size ? (size_t)have : (size_t)x.size;
          int rc = write_piece (u, fd, data, n, (int64_t)x.offset);
          if (rc < 0)
            return rc;
          data += n;
          have -= (long)n;
          x.offset += n;
          x.size -= n;
        }
    }
  long rc = sys (ftruncate, fd, e->size);
  return rc < 0 ? fail (u, ARCHIVE_STEP_WRITE, (int)rc) : 0;
}

static int
write_data (struct unpacker *u, int fd)
{
  return u->reader.entry.sparse ? write_sparse (u, fd) : write_whole (u, fd);
}

/* A file that is a mount point, as /etc/hosts of a container: it can't be replaced. */
static int
write_in_place (struct unpacker *u)
{
  CLOSED int at = (int)sys (openat, u->parent, u->name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
  struct statx st;
  int rc = at < 0 ? at : path_stat (at, "", &st);
  if (rc == 0 && !S_ISREG (st.stx_mode))
    rc = -EBUSY;
  CLOSED int fd = rc < 0 ? rc : path_reopen (at, O_WRONLY | O_TRUNC);
  return fd < 0 ? fail (u, ARCHIVE_STEP_CREATE, fd) : write_data (u, fd);
}

static int
make_file (struct unpacker *u)
{
  CLOSED int fd = -EEXIST;
  for (int i = 0; fd == -EEXIST && i < TRIES; i++)
    {
      int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
      fd = (int)sys (openat, u->parent, u->name, flags, u->reader.entry.mode & 0777);
      int rc = fd == -EEXIST ? make_room (u, 0) : 0;
      if (rc == -EBUSY)
        return write_in_place (u);
      if (rc < 0)
        return rc;
    }
  if (fd < 0)
    return fail (u, ARCHIVE_STEP_CREATE, fd);
  int rc = write_data (u, fd);
  if (rc == 0)
    rc = set_attributes (u, fd);
  if (rc == 0)
    rc = set_time (u, fd, NULL);
  return rc;
}

static int
open_made_directory (struct unpacker *u)
{
  long fd = sys (openat, u->parent, u->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  return fd < 0 ? fail (u, ARCHIVE_STEP_CREATE, (int)fd) : (int)fd;
}

static int
mark_opaque (struct unpacker *u, int fd)
{
  int rc = path_set_overlay_mark (fd, "opaque", 'y', flag (u, UNPACK_USERXATTR));
  return rc < 0 ? fail (u, ARCHIVE_STEP_XATTR, rc) : 0;
}

static int
make_directory (struct unpacker *u)
{
  long made = -EEXIST;
  for (int i = 0; made == -EEXIST && i < TRIES; i++)
    {
      made = sys (mkdirat, u->parent, u->name, u->reader.entry.mode & 0777);
      int rc = made == -EEXIST ? make_room (u, 1) : 0;
      if (rc == 2)
        return 0;
      if (rc == 1)
        made = 0;
      else if (rc < 0)
        return rc == -EBUSY ? fail (u, ARCHIVE_STEP_REMOVE, rc) : rc;
    }
  if (made < 0)
    return fail (u, ARCHIVE_STEP_CREATE, (int)made);
  int fd = open_made_directory (u);
  if (fd < 0)
    return fd;
  dir_keep (u, u->path, u->path_size, fd);
  int rc = set_attributes (u, fd);
  /* The archive first removed what lower layers have here, then made this one. */
  if (rc == 0 && u->hid_whiteout && flag (u, UNPACK_WHITEOUTS))
    rc = mark_opaque (u, fd);
  return rc < 0 ? rc : times_add (u);
}

static int
make_symlink (struct unpacker *u)
{
  const char *target = u->reader.entry.link;
  if (target[0] == '\0')
    return fail (u, ARCHIVE_STEP_CORRUPT, -EINVAL);
  long rc = -EEXIST;
  for (int i = 0; rc == -EEXIST && i < TRIES; i++)
    {
      rc = sys (symlinkat, target, u->parent, u->name);
      int room = rc == -EEXIST ? make_room_for_node (u) : 0;
      if (room < 0)
        return room;
    }
  return rc < 0 ? fail (u, ARCHIVE_STEP_CREATE, (int)rc) : set_node_attributes (u);
}

/* True if the entry is already the file that it is to be a link of. */
static int
is_linked (struct unpacker *u, int dir, const char *name)
{
  struct statx a;
  struct statx b;
  return path_stat (dir, name, &a) == 0 && path_stat (u->parent, u->name, &b) == 0 && path_same_file (&a, &b);
}

static int
make_hard_link (struct unpacker *u)
{
  long rc = -EEXIST;
  for (int i = 0; rc == -EEXIST && i < TRIES; i++)
    {
      int dir;
      const char *name;
      int found = locate (u, u->target, u->reader.entry.link, &dir, &name, PATH_DIRECTORY);
      if (found < 0)
        return found;
      if (dir < 0)
        return fail (u, ARCHIVE_STEP_CORRUPT, -EINVAL);
      /* Opening that directory may have closed the other. */
      size_t start = name_start (u->path, u->path_size);
      u->parent = dir_open (u, u->path, start > 0 ? start - 1 : 0, PATH_MAKE_DIRS);
      if (u->parent < 0)
        return fail (u, ARCHIVE_STEP_RESOLVE, u->parent);
      rc = sys (linkat, dir, name, u->parent, u->name, 0);
      if (rc == -EEXIST && is_linked (u, dir, name))
        return 0;
      int room = rc == -EEXIST ? make_room_for_node (u) : 0;
      if (room < 0)
        return room;
    }
  return rc < 0 ? fail (u, ARCHIVE_STEP_LINK, (int)rc) : 0;
}

static int
make_node (struct unpacker *u)
{
  const struct tar_entry *e = &u->reader.entry;
  uint32_t kind = e->type == TAR_FIFO ? S_IFIFO : e->type == TAR_CHAR ? S_IFCHR : S_IFBLK;
  if (kind != S_IFIFO && flag (u, UNPACK_SKIP_DEVICES | UNPACK_EMPTY_DEVICES))
    {
      u->result->skipped_devices++;
      return flag (u, UNPACK_SKIP_DEVICES) ? 0 : make_file (u);
    }
  uint32_t device = kind == S_IFIFO ? 0 : (e->minor & 0xff) | e->major << 8 | (e->minor & ~0xffu) << 12;
  long rc = -EEXIST;
  for (int i = 0; rc == -EEXIST && i < TRIES; i++)
    {
      rc = sys (mknodat, u->parent, u->name, kind | e->mode, device);
      int room = rc == -EEXIST ? make_room_for_node (u) : 0;
      if (room < 0)
        return room;
    }
  if (rc < 0)
    return fail (u, kind == S_IFIFO ? ARCHIVE_STEP_CREATE : ARCHIVE_STEP_DEVICE, (int)rc);
  return set_node_attributes (u);
}

/* Whiteouts. */

/* Overlayfs's other form of a whiteout: an attribute of an empty file, and one of its directory that says to look. */
static int
make_marked_whiteout (struct unpacker *u, const char *name)
{
  int userxattr = flag (u, UNPACK_USERXATTR);
  CLOSED int dir = (int)sys (openat, u->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (dir < 0)
    return fail (u, ARCHIVE_STEP_RESOLVE, dir);
  CLOSED int fd = (int)sys (openat, dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return fd == -EEXIST ? 0 : fail (u, ARCHIVE_STEP_CREATE, fd);
  int rc = path_set_overlay_mark (fd, "whiteout", 'y', userxattr);
  if (rc == 0 && path_overlay_mark (dir, "opaque", userxattr) == 0)
    rc = path_set_overlay_mark (dir, "opaque", 'x', userxattr);
  return rc < 0 ? fail (u, ARCHIVE_STEP_XATTR, rc) : 0;
}

static int
mark_directory_opaque (struct unpacker *u, const char *name)
{
  CLOSED int fd = (int)sys (openat, u->parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (fd == -ENOTDIR || fd == -ELOOP)
    return 0;
  return fd < 0 ? fail (u, ARCHIVE_STEP_CREATE, fd) : mark_opaque (u, fd);
}

static int
make_whiteout (struct unpacker *u)
{
  const char *name = u->name + 4;
  if (strcmp (name, ".wh..opq") == 0)
    return mark_directory_opaque (u, ".");
  /* Bookkeeping of AUFS. */
  if (text_starts (name, ".wh."))
    return 0;
  if (name[0] == '\0' || path_is_dots (name))
    return fail (u, ARCHIVE_STEP_CORRUPT, -EINVAL);
  long rc = sys (mknodat, u->parent, name, S_IFCHR, 0);
  /* A whiteout hides lower layers alone, not what this layer puts there. */
  if (rc == -EEXIST)
    return mark_directory_opaque (u, name);
  if (rc == -EPERM)
    return make_marked_whiteout (u, name);
  return rc < 0 ? fail (u, ARCHIVE_STEP_DEVICE, (int)rc) : 0;
}

static int
set_root (struct unpacker *u)
{
  if (u->reader.entry.type != TAR_DIRECTORY)
    return fail (u, ARCHIVE_STEP_CORRUPT, -EINVAL);
  if (!flag (u, UNPACK_ROOT_ENTRY))
    return 0;
  CLOSED int at = path_open (u->root, u->base, PATH_DIRECTORY);
  CLOSED int fd = at < 0 ? at : (int)sys (openat, at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0)
    return fail (u, ARCHIVE_STEP_OPEN, fd);
  int rc = set_attributes (u, fd);
  return rc < 0 ? rc : times_add (u);
}

static int
check_limits (struct unpacker *u)
{
  const struct unpack_options *o = u->options;
  const struct tar_reader *r = &u->reader;
  if (o->max_entries > 0 && u->result->entries >= o->max_entries)
    return fail (u, ARCHIVE_STEP_LIMIT, -E2BIG);
  if ((o->max_size > 0 && r->entry.size > o->max_size) || (o->max_bytes > 0 && r->data_left > o->max_bytes - u->result->bytes))
    return fail (u, ARCHIVE_STEP_LIMIT, -EFBIG);
  u->result->entries++;
  return 0;
}

static int
unpack_entry (struct unpacker *u)
{
  int rc = check_limits (u);
  if (rc == 0)
    rc = locate (u, u->path, u->reader.entry.path, &u->parent, &u->name, PATH_MAKE_DIRS);
  if (rc < 0)
    return rc;
  u->path_size = strlen (u->path);
  u->hid_whiteout = 0;
  if (u->parent < 0)
    return set_root (u);
  if (flag (u, UNPACK_WHITEOUTS) && text_starts (u->name, ".wh."))
    return make_whiteout (u);
  switch (u->reader.entry.type)
    {
    case TAR_FILE:
      return make_file (u);
    case TAR_DIRECTORY:
      return make_directory (u);
    case TAR_SYMLINK:
      return make_symlink (u);
    case TAR_HARD_LINK:
      return make_hard_link (u);
    default:
      return make_node (u);
    }
}

/* The directory that names start in, by its path. */
static int
begin_at (struct unpacker *u, const char *base)
{
  const char *path = base != NULL ? base : "";
  long size = clean_path (u->base, 0, path);
  CLOSED int fd = size < 0 ? (int)size : path_open (u->root, u->base, PATH_DIRECTORY);
  if (fd < 0)
    return archive_fail (&u->result->error, ARCHIVE_STEP_RESOLVE, fd, path);
  u->base_size = (size_t)size;
  return 0;
}

static int
unpack_all (struct unpacker *u)
{
  int rc = begin_at (u, u->options->base);
  if (rc < 0)
    return rc;
  while ((rc = tar_next (&u->reader)) == 1)
    if ((rc = unpack_entry (u)) < 0)
      return rc;
  if (rc == 2 && flag (u, UNPACK_NEED_END))
    return fail (u, ARCHIVE_STEP_CORRUPT, -ENODATA);
  if (rc >= 0)
    rc = times_finish (u);
  return rc < 0 ? rc : tar_drain (&u->reader);
}

int
archive_unpack (int tar_fd, int root_fd, const struct unpack_options *options, struct unpack_result *result)
{
  struct unpacker *u = &unpacker;
  struct tar_limits limits = { options->max_path, options->max_xattr };
  memset (result, 0, sizeof *result);
  u->root = root_fd;
  u->options = options;
  u->result = result;
  u->uses = 0;
  u->recent = NULL;
  u->spill = -1;
  u->times.used = 0;
  for (size_t i = 0; i < DIRS; i++)
    {
      u->dir[i].fd = -1;
      u->dir[i].used = 0;
    }
  tar_begin (&u->reader, tar_fd, &limits, &result->error);
  sys (umask, 0);
  int rc = unpack_all (u);
  dirs_forget (u);
  path_close (&u->spill);
  return rc;
}
