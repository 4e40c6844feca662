/* A sorted walk in bounded memory: see walk.h. */
#include "walk.h"

#include <linux/errno.h>

#include "memory.h"
#include "syscalls.h"

enum
{
  ARENA = 12 * 1048576,
  LEVEL_RESERVE = 1024, /* of the arena, for each deeper level */
  OPEN_LEVELS = 64,     /* levels whose directories stay open; others are opened again by their path */
  LIST_SIZE = 65536,
  LINK_SLOTS = 2 * ARCHIVE_LINKS_MAX,
  LINK_NAMES = 8 * 1048576
};

/* The names of one directory in the arena: the texts from `base` on, then `count` offsets of them, sorted. If they don't
   all fit, the first ones by the alphabet are kept, and the directory is read again for the next ones. */
struct level
{
  int fd;
  int more;
  size_t base;
  size_t text_end;
  size_t limit;
  size_t count;
  size_t next;
  size_t path_size; /* of the directory's own path */
  uint32_t *index;
};

struct walk
{
  int top;
  unsigned flags;
  walk_visit *visit;
  void *context;
  struct archive_error *error;
  size_t depth;
  char path[ARCHIVE_PATH_MAX + 1];
  char bound[256]; /* while listing: names from here on are for the next time */
  struct level level[WALK_DEPTH_MAX + 1];
  char list[LIST_SIZE] __attribute__ ((aligned (8)));
  char arena[ARENA] __attribute__ ((aligned (8)));
};

static struct walk walk;

static int
fail (struct walk *w, int step, int rc)
{
  return archive_fail (w->error, step, rc, w->path);
}

/* Heapsort: no recursion, no worst case. */
static void
sift (const char *text, uint32_t *heap, size_t at, size_t count)
{
  uint32_t moved = heap[at];
  for (;;)
    {
      size_t child = 2 * at + 1;
      if (child >= count)
        break;
      if (child + 1 < count && strcmp (text + heap[child], text + heap[child + 1]) < 0)
        child++;
      if (strcmp (text + moved, text + heap[child]) >= 0)
        break;
      heap[at] = heap[child];
      at = child;
    }
  heap[at] = moved;
}

static void
sort (const char *text, uint32_t *index, size_t count)
{
  for (size_t i = count / 2; i > 0; i--)
    sift (text, index, i - 1, count);
  for (size_t n = count; n > 1; n--)
    {
      uint32_t last = index[n - 1];
      index[n - 1] = index[0];
      index[0] = last;
      sift (text, index, 0, n - 1);
    }
}

/* While a directory is listed, its index grows down from the limit. */
static void
drop_last_half (struct walk *w, struct level *l)
{
  sort (w->arena, l->index, l->count);
  text_copy (w->bound, sizeof w->bound, w->arena + l->index[l->count / 2]);
  l->more = 1;
  size_t from = l->base;
  size_t end = l->text_end;
  l->text_end = l->base;
  l->count = 0;
  l->index = (uint32_t *)(w->arena + l->limit);
  while (from < end)
    {
      size_t n = strlen (w->arena + from) + 1;
      if (strcmp (w->arena + from, w->bound) < 0)
        {
          memmove (w->arena + l->text_end, w->arena + from, n);
          *--l->index = (uint32_t)l->text_end;
          l->count++;
          l->text_end += n;
        }
      from += n;
    }
}

static void
keep_name (struct walk *w, struct level *l, const char *name)
{
  size_t n = strlen (name) + 1;
  if (l->more && strcmp (name, w->bound) >= 0)
    return;
  while (l->text_end + n > l->limit - (l->count + 1) * sizeof (uint32_t))
    {
      if (l->count < 2)
        return;
      drop_last_half (w, l);
      if (strcmp (name, w->bound) >= 0)
        return;
    }
  memcpy (w->arena + l->text_end, name, n);
  *--l->index = (uint32_t)l->text_end;
  l->count++;
  l->text_end += n;
}

/* Reads the names behind `after` into the arena. */
static int
list_names (struct walk *w, struct level *l, const char *after)
{
  l->more = 0;
  l->count = 0;
  l->next = 0;
  l->text_end = l->base;
  size_t levels_left = WALK_DEPTH_MAX - w->depth;
  l->limit = l->base + LEVEL_RESERVE + (ARENA - l->base - levels_left * LEVEL_RESERVE) / 2;
  l->limit &= ~(size_t)7;
  l->index = (uint32_t *)(w->arena + l->limit);
  for (;;)
    {
      long n = sys (getdents64, l->fd, w->list, sizeof w->list);
      if (n < 0 && n != -ENOENT)
        return fail (w, ARCHIVE_STEP_LIST, (int)n);
      if (n <= 0)
        break;
      for (long at = 0; at < n;)
        {
          const struct path_dirent *d = (const struct path_dirent *)(w->list + at);
          at += d->size;
          if (!path_is_dots (d->name) && (after == NULL || strcmp (d->name, after) > 0))
            keep_name (w, l, d->name);
        }
    }
  sort (w->arena, l->index, l->count);
  /* Give back what is free between the texts and the index. */
  uint32_t *index = (uint32_t *)(w->arena + ((l->text_end + 7) & ~(size_t)7));
  memmove (index, l->index, l->count * sizeof *index);
  l->index = index;
  l->limit = (size_t)((char *)(index + l->count) - w->arena);
  return 0;
}

/* Opens the directory of a level again, which was closed to save descriptors. */
static int
open_level (struct walk *w, struct level *l)
{
  if (l->fd >= 0)
    return 0;
  char path[ARCHIVE_PATH_MAX + 1];
  memcpy (path, w->path, l->path_size);
  path[l->path_size] = '\0';
  CLOSED int at = path_open (w->top, path, PATH_DIRECTORY | PATH_NO_LINKS);
  if (at >= 0)
    l->fd = (int)sys (openat, at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  return at < 0 ? at : l->fd < 0 ? l->fd : 0;
}

/* Goes into the directory w->path, open as fd, which the level takes over. */
static int
push (struct walk *w, int fd, size_t base)
{
  if (w->depth >= OPEN_LEVELS)
    path_close (&w->level[w->depth - OPEN_LEVELS].fd);
  struct level *l = &w->level[w->depth++];
  l->fd = fd;
  l->base = base;
  l->path_size = strlen (w->path);
  return list_names (w, l, NULL);
}

static int
list_more (struct walk *w, struct level *l)
{
  char after[256];
  text_copy (after, sizeof after, w->arena + l->index[l->count - 1]);
  int rc = open_level (w, l);
  if (rc == 0)
    rc = (int)sys (lseek, l->fd, 0, 0);
  return rc < 0 ? fail (w, ARCHIVE_STEP_LIST, rc) : list_names (w, l, after);
}

static int
add_name (struct walk *w, const struct level *l, const char *name)
{
  size_t at = l->path_size;
  if (at > 0)
    w->path[at++] = '/';
  size_t n = strlen (name);
  if (at + n > ARCHIVE_PATH_MAX)
    return fail (w, ARCHIVE_STEP_LIST, -ENAMETOOLONG);
  memcpy (w->path + at, name, n + 1);
  return 0;
}

static int
is_gone (int rc)
{
  return rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP || rc == -ESTALE;
}

static int
go_into (struct walk *w, const struct level *l, const struct walk_item *item)
{
  int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  CLOSED int fd = -1;
  if (item->fd >= 0)
    fd = (int)sys (openat, item->fd, ".", flags, 0);
  else
    fd = (int)sys (openat, item->dir, item->name, flags, 0);
  if (is_gone (fd))
    return 0;
  if (fd < 0)
    return fail (w, ARCHIVE_STEP_OPEN, fd);
  return push (w, path_steal (&fd), (l->limit + 7) & ~(size_t)7);
}

static int
visit_name (struct walk *w, struct level *l, const char *name)
{
  int rc = add_name (w, l, name);
  if (rc < 0)
    return rc;
  rc = open_level (w, l);
  if (rc < 0)
    return is_gone (rc) ? 0 : fail (w, ARCHIVE_STEP_OPEN, rc);
  struct walk_item item = { .dir = l->fd, .fd = -1, .name = name, .path = w->path, .depth = w->depth - 1 };
  CLOSED int fd = -1;
  if (w->flags & WALK_OPEN)
    {
      fd = (int)sys (openat, l->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
      if (fd < 0)
        return is_gone (fd) ? 0 : fail (w, ARCHIVE_STEP_OPEN, fd);
      item.fd = fd;
    }
  rc = fd >= 0 ? path_stat (fd, "", &item.st) : path_stat (l->fd, name, &item.st);
  if (rc < 0)
    return is_gone (rc) ? 0 : fail (w, ARCHIVE_STEP_OPEN, rc);
  rc = w->visit (w->context, &item);
  if (rc != 0)
    return rc < 0 ? rc : 0;
  return S_ISDIR (item.st.stx_mode) ? go_into (w, l, &item) : 0;
}

static int
walk_all (struct walk *w)
{
  while (w->depth > 0)
    {
      struct level *l = &w->level[w->depth - 1];
      int rc = 0;
      if (l->next < l->count)
        rc = visit_name (w, l, w->arena + l->index[l->next++]);
      else if (l->more)
        {
          w->path[l->path_size] = '\0';
          rc = list_more (w, l);
        }
      else
        {
          path_close (&l->fd);
          w->depth--;
        }
      if (rc < 0)
        return rc;
    }
  return 0;
}

int
walk_below (int top, unsigned flags, walk_visit *visit, void *context, struct archive_error *error)
{
  struct walk *w = &walk;
  w->top = top;
  w->flags = flags;
  w->visit = visit;
  w->context = context;
  w->error = error;
  w->depth = 0;
  w->path[0] = '\0';
  int fd = (int)sys (openat, top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0)
    return fail (w, ARCHIVE_STEP_OPEN, fd);
  int rc = push (w, fd, 0);
  if (rc == 0)
    rc = walk_all (w);
  while (w->depth > 0)
    path_close (&w->level[--w->depth].fd);
  return rc;
}

/* Files with several names. */

struct link
{
  uint64_t inode;
  uint32_t major;
  uint32_t minor;
  uint32_t name; /* offset of its first name, plus one; 0 for a free slot */
};

static struct
{
  size_t count;
  size_t names_end;
  struct link slot[LINK_SLOTS];
  char names[LINK_NAMES];
} links;

void
links_begin (void)
{
  if (links.count > 0)
    memset (links.slot, 0, sizeof links.slot);
  links.count = 0;
  links.names_end = 1;
}

const char *
links_first (const struct statx *st, const char *name)
{
  uint64_t hash = (st->stx_ino ^ (uint64_t)st->stx_dev_minor << 32) * 0x9e3779b97f4a7c15ull;
  size_t i = hash >> 32 & (LINK_SLOTS - 1);
  struct link *l = &links.slot[i];
  while (l->name != 0)
    {
      if (l->inode == st->stx_ino && l->major == st->stx_dev_major && l->minor == st->stx_dev_minor)
        return links.names + l->name - 1;
      i = (i + 1) & (LINK_SLOTS - 1);
      l = &links.slot[i];
    }
  size_t n = name != NULL ? strlen (name) + 1 : 0;
  if (links.count == ARCHIVE_LINKS_MAX || n > LINK_NAMES - links.names_end)
    return NULL;
  links.count++;
  l->inode = st->stx_ino;
  l->major = st->stx_dev_major;
  l->minor = st->stx_dev_minor;
  l->name = n > 0 ? (uint32_t)links.names_end + 1 : 1;
  if (n > 0)
    memcpy (links.names + links.names_end, name, n);
  links.names_end += n;
  return NULL;
}
