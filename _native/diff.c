/* What an overlayfs upper directory changes: see tree_diff in archive.h. */
#include <linux/errno.h>

#include "memory.h"
#include "paths.h"
#include "syscalls.h"
#include "walk.h"

enum
{
  OUT_SIZE = 65536,
  LIST_SIZE = 32768
};

/* Of a directory on the way to the current entry, by depth. */
struct stage
{
  size_t visible;   /* so many lowers, from the top, are seen at the entries in it */
  int opaque;       /* it replaces what lowers have: their entries that aren't in it are deleted */
  int pending;      /* it's changed if something below is */
  size_t path_size; /* of its own path */
};

struct differ
{
  const int *lower;
  int out;
  int userxattr;
  struct archive_error *error;
  size_t used;
  struct stage stage[WALK_DEPTH_MAX + 1]; /* [0] is the top */
  char list[LIST_SIZE] __attribute__ ((aligned (8)));
  char buffer[OUT_SIZE];
};

static struct differ differ;

static int
fail (struct differ *d, int step, int rc, const char *path)
{
  return archive_fail (d->error, step, rc, path);
}

static int
flush (struct differ *d)
{
  long rc = path_write (d->out, d->buffer, d->used);
  d->used = 0;
  return rc < 0 ? fail (d, ARCHIVE_STEP_OUTPUT, (int)rc, "") : 0;
}

/* A record of `size` bytes of path, and of name behind it unless that is NULL. */
static int
put_record (struct differ *d, char kind, const char *path, size_t size, const char *name)
{
  size_t name_size = name != NULL ? strlen (name) : 0;
  if (d->used + size + name_size + 6 > sizeof d->buffer)
    {
      int rc = flush (d);
      if (rc < 0)
        return rc;
    }
  char *to = d->buffer + d->used;
  *to++ = kind;
  *to++ = '\0';
  *to++ = '/';
  memcpy (to, path, size);
  to += size;
  if (name != NULL && size > 0)
    *to++ = '/';
  if (name != NULL)
    memcpy (to, name, name_size);
  to += name_size;
  *to++ = '\0';
  d->used = (size_t)(to - d->buffer);
  return 0;
}

/* Puts the directories on the way to an entry at `depth` first, as changed. */
static int
put_pending (struct differ *d, const char *path, size_t depth)
{
  for (size_t i = 1; i <= depth; i++)
    if (d->stage[i].pending)
      {
        int rc = put_record (d, 'C', path, d->stage[i].path_size, NULL);
        if (rc < 0)
          return rc;
        d->stage[i].pending = 0;
      }
  return 0;
}

static int
put_item (struct differ *d, char kind, const struct walk_item *item)
{
  int rc = put_pending (d, item->path, item->depth);
  return rc < 0 ? rc : put_record (d, kind, item->path, strlen (item->path), NULL);
}

/* True for both forms of a whiteout; fd is O_PATH. */
static int
is_whiteout (const struct differ *d, int fd, const struct statx *st)
{
  if (!S_ISREG (st->stx_mode) || st->stx_size > 0)
    return path_is_whiteout (st);
  CLOSED int file = path_reopen (fd, O_RDONLY);
  return file >= 0 && path_overlay_mark (file, "whiteout", d->userxattr) == 'y';
}

static int
is_opaque (const struct differ *d, int fd)
{
  CLOSED int dir = (int)sys (openat, fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  return dir >= 0 && path_overlay_mark (dir, "opaque", d->userxattr) == 'y';
}

/* What the first `visible` lowers have at path. Returns 1 with *st, 0 if nothing, -errno with the error filled. */
static int
look_below (struct differ *d, const char *path, size_t visible, struct statx *st)
{
  for (size_t i = 0; i < visible; i++)
    {
      CLOSED int fd = path_open (d->lower[i], path, PATH_NO_FOLLOW | PATH_NO_LINKS);
      if (fd == -ENOENT)
        continue;
      /* A whiteout, a file or a symlink in place of a directory on the way hides the lowers below. */
      if (fd == -ENOTDIR || fd == -ELOOP)
        return 0;
      int rc = fd < 0 ? fd : path_stat (fd, "", st);
      if (rc < 0)
        return fail (d, ARCHIVE_STEP_OPEN, rc, path);
      return !is_whiteout (d, fd, st);
    }
  return 0;
}

/* How many of the lowers are seen inside the directory path, of those that are seen beside it. Returns 0 or -errno. */
static int
count_visible (struct differ *d, const char *path, size_t visible, size_t *inside)
{
  for (*inside = 0; *inside < visible; ++*inside)
    {
      CLOSED int fd = path_open (d->lower[*inside], path, PATH_DIRECTORY | PATH_NO_FOLLOW | PATH_NO_LINKS);
      if (fd == -ENOTDIR || fd == -ELOOP)
        return 0;
      if (fd < 0 && fd != -ENOENT)
        return fail (d, ARCHIVE_STEP_OPEN, fd, path);
      if (fd >= 0 && is_opaque (d, fd))
        {
          ++*inside;
          return 0;
        }
    }
  return 0;
}

/* True if the upper directory or a lower before the i-th decides on path/name already. */
static int
is_decided (struct differ *d, const struct walk_item *item, size_t i, const char *name)
{
  struct statx st;
  if (path_stat (item->fd, name, &st) == 0)
    return 1;
  for (size_t j = 0; j < i; j++)
    {
      CLOSED int dir = path_open (d->lower[j], item->path, PATH_DIRECTORY | PATH_NO_FOLLOW | PATH_NO_LINKS);
      if (dir >= 0 && path_stat (dir, name, &st) == 0)
        return 1;
    }
  return 0;
}

static int
put_deleted (struct differ *d, const struct walk_item *item, size_t i, int dir, const char *name)
{
  if (path_is_dots (name) || is_decided (d, item, i, name))
    return 0;
  CLOSED int fd = (int)sys (openat, dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
  struct statx st;
  int rc = fd < 0 ? fd : path_stat (fd, "", &st);
  if (rc < 0)
    return fail (d, ARCHIVE_STEP_OPEN, rc, item->path);
  if (is_whiteout (d, fd, &st))
    return 0;
  rc = put_pending (d, item->path, item->depth + 1);
  return rc < 0 ? rc : put_record (d, 'D', item->path, strlen (item->path), name);
}

/* Entries of the i-th lower's directory that an opaque one leaves out. */
static int
put_left_out (struct differ *d, const struct walk_item *item, size_t i)
{
  CLOSED int at = path_open (d->lower[i], item->path, PATH_DIRECTORY | PATH_NO_FOLLOW | PATH_NO_LINKS);
  CLOSED int dir = at < 0 ? at : (int)sys (openat, at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (dir < 0)
    return dir == -ENOENT ? 0 : fail (d, ARCHIVE_STEP_OPEN, dir, item->path);
  for (;;)
    {
      long n = sys (getdents64, dir, d->list, sizeof d->list);
      if (n < 0)
        return fail (d, ARCHIVE_STEP_LIST, (int)n, item->path);
      if (n == 0)
        return 0;
      for (long k = 0; k < n;)
        {
          const struct path_dirent *e = (const struct path_dirent *)(d->list + k);
          k += e->size;
          int rc = put_deleted (d, item, i, dir, e->name);
          if (rc < 0)
            return rc;
        }
    }
}

static int
is_changed (const struct statx *a, const struct statx *b)
{
  return a->stx_mode != b->stx_mode || a->stx_uid != b->stx_uid || a->stx_gid != b->stx_gid
         || a->stx_mtime.tv_sec != b->stx_mtime.tv_sec || a->stx_mtime.tv_nsec != b->stx_mtime.tv_nsec;
}

/* A directory that lowers have, too. */
static int
visit_merged (struct differ *d, const struct walk_item *item, const struct statx *below)
{
  const struct stage *above = &d->stage[item->depth];
  struct stage *here = &d->stage[item->depth + 1];
  int rc = count_visible (d, item->path, above->visible, &here->visible);
  here->opaque = above->opaque || is_opaque (d, item->fd);
  if (rc == 0 && (here->opaque || is_changed (&item->st, below)))
    rc = put_item (d, 'C', item);
  else
    here->pending = 1;
  for (size_t i = 0; rc == 0 && here->opaque && i < here->visible; i++)
    rc = put_left_out (d, item, i);
  return rc;
}

static int
visit (void *context, const struct walk_item *item)
{
  struct differ *d = context;
  struct stage *here = &d->stage[item->depth + 1];
  struct statx below;
  int found = look_below (d, item->path, d->stage[item->depth].visible, &below);
  if (found < 0)
    return found;
  *here = (struct stage){ .path_size = strlen (item->path) };
  if (is_whiteout (d, item->fd, &item->st))
    return found ? put_item (d, 'D', item) : 0;
  if (found && S_ISDIR (item->st.stx_mode) && S_ISDIR (below.stx_mode))
    return visit_merged (d, item, &below);
  return put_item (d, found ? 'C' : 'A', item);
}

int
tree_diff (int upper_fd, const int *lower_fds, size_t lowers, int out_fd, uint32_t flags, struct archive_error *error)
{
  struct differ *d = &differ;
  if (lowers > ARCHIVE_LOWERS_MAX)
    return archive_fail (error, ARCHIVE_STEP_LIMIT, -E2BIG, "");
  d->lower = lower_fds;
  d->out = out_fd;
  d->userxattr = (flags & DIFF_USERXATTR) != 0;
  d->error = error;
  d->used = 0;
  d->stage[0] = (struct stage){ .visible = lowers };
  int rc = walk_below (upper_fd, WALK_OPEN, visit, d, error);
  return rc < 0 ? rc : flush (d);
}
