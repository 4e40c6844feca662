/* Trees: removing and adding up. See archive.h. */
#include <linux/errno.h>

#include "memory.h"
#include "paths.h"
#include "syscalls.h"
#include "walk.h"

#ifndef __NR_fchmodat2
#  define __NR_fchmodat2 452
#endif

enum
{
  FRAMES = 48,        /* levels whose directories stay open */
  DEPTH_MAX = 16384,  /* levels below which directories are moved up before they are emptied */
  RETRIES_MAX = 1000, /* of directories that were filled again meanwhile */
  LIST_SIZE = 8192
};

struct listing
{
  int fd;
  size_t used;
  size_t next;
  struct path_dirent *current;
  char entries[LIST_SIZE] __attribute__ ((aligned (8)));
};

struct identity
{
  uint64_t inode;
  uint32_t major;
  uint32_t minor;
};

/* The way down. Levels up to FRAMES have a frame each; those deeper share the last one, which goes back up by `..` and
   knows by its identity that it came to the same directory. */
struct remover
{
  struct archive_error *error;
  struct statx top;
  size_t depth;
  unsigned retries;
  unsigned moved; /* directories moved up to the top, ever */
  int look_again; /* at the top, since something was moved there */
  struct listing frame[FRAMES];
  struct identity way[DEPTH_MAX];
};

static struct remover remover;

static struct listing *
frame_at (struct remover *r, size_t depth)
{
  return &r->frame[depth < FRAMES ? depth : FRAMES - 1];
}

static void
list_begin (struct listing *l, int fd)
{
  l->fd = fd;
  l->used = 0;
  l->next = 0;
  l->current = NULL;
}

static int
list_again (struct listing *l)
{
  list_begin (l, l->fd);
  long rc = sys (lseek, l->fd, 0, 0);
  return rc < 0 ? (int)rc : 0;
}

/* Goes to the next entry. Returns 1, 0 at the end, -errno. */
static int
list_next (struct listing *l)
{
  do
    {
      if (l->next == l->used)
        {
          long n = sys (getdents64, l->fd, l->entries, sizeof l->entries);
          if (n <= 0)
            return n == -ENOENT ? 0 : (int)n;
          l->used = (size_t)n;
          l->next = 0;
        }
      l->current = (struct path_dirent *)(l->entries + l->next);
      l->next += l->current->size;
    }
  while (path_is_dots (l->current->name));
  return 1;
}

static struct identity
identity_of (const struct statx *st)
{
  return (struct identity){ st->stx_ino, st->stx_dev_major, st->stx_dev_minor };
}

/* Gives ourselves the right to read and change the directory `name`, unless it is something else by now. */
static int
unlock_directory (int dir, const char *name)
{
  CLOSED int fd = (int)sys (openat, dir, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0)
    return fd;
  long rc = sys (fchmodat2, fd, "", 0700, AT_EMPTY_PATH);
  if (rc != -ENOSYS && rc != -EPERM)
    return (int)rc;
  char link[40];
  size_t n = text_copy (link, sizeof link, "/proc/self/fd/");
  text_number (link + n, (uint64_t)fd);
  return (int)sys (fchmodat, AT_FDCWD, link, 0700);
}

static int
open_directory (int dir, const char *name)
{
  int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  long fd = sys (openat, dir, name, flags, 0);
  if (fd == -EACCES && unlock_directory (dir, name) == 0)
    fd = sys (openat, dir, name, flags, 0);
  return (int)fd;
}

/* Returns 0 also if it is gone, -EBUSY for a mount point: one of another namespace the kernel would unmount there. */
static int
unlink_in (int dir, const char *name, int flags)
{
  struct statx st;
  long rc = path_stat (dir, name, &st);
  if (rc == 0 && path_is_mount (&st))
    return -EBUSY;
  rc = sys (unlinkat, dir, name, flags);
  if (rc == -EACCES && sys (fchmod, dir, 0700) == 0)
    rc = sys (unlinkat, dir, name, flags);
  return rc == -ENOENT ? 0 : (int)rc;
}

/* Moves a directory that is too deep up to the top. */
static int
move_up (struct remover *r, int dir, const char *name)
{
  char to[40];
  for (;;)
    {
      size_t n = text_copy (to, sizeof to, ".pycontainers-moved-");
      text_number (to + n, r->moved++);
      long rc = sys (renameat2, dir, name, r->frame[0].fd, to, 1 /* RENAME_NOREPLACE */);
      if (rc == -EEXIST)
        continue;
      r->look_again = 1;
      return (int)rc;
    }
}

static int
go_down (struct remover *r, struct listing *l)
{
  const char *name = l->current->name;
  if (r->depth + 1 == DEPTH_MAX)
    return move_up (r, l->fd, name);
  CLOSED int fd = open_directory (l->fd, name);
  if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
    return ++r->retries > RETRIES_MAX ? -EAGAIN : 0;
  if (fd < 0)
    return fd;
  struct statx st;
  int rc = path_stat (fd, "", &st);
  if (rc < 0)
    return rc;
  if (!path_same_mount (&st, &r->top))
    return -EBUSY;
  r->way[++r->depth] = identity_of (&st);
  struct listing *below = frame_at (r, r->depth);
  if (r->depth >= FRAMES)
    path_close (&below->fd);
  list_begin (below, path_steal (&fd));
  return 0;
}

/* Removes the entry, or goes down into it. */
static int
remove_entry (struct remover *r, struct listing *l)
{
  const char *name = l->current->name;
  int rc = -EISDIR;
  if (l->current->type != 4 /* DT_DIR */)
    rc = unlink_in (l->fd, name, 0);
  if (rc == -EISDIR)
    rc = unlink_in (l->fd, name, AT_REMOVEDIR);
  if (rc == -ENOTDIR)
    rc = unlink_in (l->fd, name, 0);
  return rc == -ENOTEMPTY || rc == -EEXIST ? go_down (r, l) : rc;
}

static int
go_up_by_name (struct remover *r)
{
  path_close (&frame_at (r, r->depth)->fd);
  struct listing *l = frame_at (r, --r->depth);
  int rc = unlink_in (l->fd, l->current->name, AT_REMOVEDIR);
  if (rc != -ENOTEMPTY && rc != -EEXIST && rc != -ENOTDIR)
    return rc;
  return ++r->retries > RETRIES_MAX ? rc : remove_entry (r, l);
}

static int
go_up_by_dots (struct remover *r)
{
  struct listing *l = frame_at (r, r->depth);
  CLOSED int fd = (int)sys (openat, l->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0)
    return fd;
  struct statx st;
  int rc = path_stat (fd, "", &st);
  if (rc < 0)
    return rc;
  const struct identity *was = &r->way[--r->depth];
  if (st.stx_ino != was->inode || st.stx_dev_major != was->major || st.stx_dev_minor != was->minor)
    return -ESTALE;
  path_close (&l->fd);
  list_begin (l, path_steal (&fd));
  return 0;
}

/* Empties the directory at frame 0. */
static int
remove_all (struct remover *r)
{
  for (;;)
    {
      struct listing *l = frame_at (r, r->depth);
      int rc = list_next (l);
      if (rc > 0)
        rc = remove_entry (r, l);
      else if (rc == 0 && r->depth == 0)
        {
          if (!r->look_again)
            return 0;
          r->look_again = 0;
          rc = list_again (l);
        }
      else if (rc == 0)
        rc = r->depth < FRAMES ? go_up_by_name (r) : go_up_by_dots (r);
      if (rc < 0)
        return rc;
    }
}

static int
remove_directory (struct remover *r, int dir, const char *name)
{
  CLOSED int top = open_directory (dir, name);
  if (top < 0)
    return top == -ENOENT ? 0 : top;
  int rc = path_stat (top, "", &r->top);
  if (rc < 0)
    return rc;
  struct statx above;
  rc = path_stat (dir, "", &above);
  if (rc == 0 && !path_same_mount (&above, &r->top))
    return -EBUSY;
  r->depth = 0;
  r->retries = 0;
  r->look_again = 0;
  r->way[0] = identity_of (&r->top);
  list_begin (&r->frame[0], path_steal (&top));
  rc = remove_all (r);
  for (size_t i = 0; i <= r->depth && i < FRAMES; i++)
    path_close (&r->frame[i].fd);
  return rc < 0 ? rc : unlink_in (dir, name, AT_REMOVEDIR);
}

int
tree_remove (int dir_fd, const char *name, struct archive_error *error)
{
  int rc = unlink_in (dir_fd, name, 0);
  if (rc == -EISDIR)
    rc = unlink_in (dir_fd, name, AT_REMOVEDIR);
  for (int i = 0; i < 3 && (rc == -ENOTEMPTY || rc == -EEXIST); i++)
    rc = remove_directory (&remover, dir_fd, name);
  return rc < 0 ? archive_fail (error, ARCHIVE_STEP_REMOVE, rc, name) : 0;
}

struct counter
{
  struct tree_usage *usage;
  struct statx top;
};

static int
count (void *context, const struct walk_item *item)
{
  struct counter *c = context;
  if (!path_same_mount (&item->st, &c->top))
    return WALK_SKIP;
  int directory = S_ISDIR (item->st.stx_mode);
  if (!directory && item->st.stx_nlink > 1 && links_first (&item->st, NULL) != NULL)
    return 0;
  c->usage->inodes++;
  c->usage->disk += item->st.stx_blocks * 512;
  c->usage->size += directory ? 0 : item->st.stx_size;
  return 0;
}

int
tree_usage (int dir_fd, struct tree_usage *usage, struct archive_error *error)
{
  struct counter c;
  memset (usage, 0, sizeof *usage);
  c.usage = usage;
  int rc = path_stat (dir_fd, "", &c.top);
  if (rc < 0)
    return archive_fail (error, ARCHIVE_STEP_OPEN, rc, "");
  links_begin ();
  usage->inodes = 1;
  usage->disk = c.top.stx_blocks * 512;
  return walk_below (dir_fd, 0, count, &c, error);
}
