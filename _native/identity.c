/* Who a process is: /etc/passwd and /etc/group of the container, read as hostile input. */
#include "core.h"

#include <sys/stat.h>

#define FILE_MAX (16 * 1024 * 1024)

/* A line at a time from a small buffer; a line that is longer than the buffer is passed over. */
struct reader
{
  int fd;
  usize start;
  usize end;
  usize total;
  bool skip;
  char buffer[4096];
};

/* Regular files only, looked at before they are opened: a fifo must not stall a start, nor a device be opened or read. */
static int
reader_open (struct reader *r, const char *path)
{
  struct stat st;
  long fd = sys (newfstatat, AT_FDCWD, path, &st, 0);
  long e;

  if (fd == 0 && !S_ISREG (st.st_mode))
    fd = -EINVAL;
  if (fd == 0)
    fd = sys (openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
  if (fd < 0)
    return (int)fd;
  e = sys (newfstatat, fd, "", &st, AT_EMPTY_PATH);
  if (e == 0 && !S_ISREG (st.st_mode))
    e = -EINVAL;
  if (e)
    {
      sys (close, fd);
      return (int)e;
    }
  r->fd = (int)fd;
  r->start = r->end = r->total = 0;
  r->skip = false;
  return 0;
}

static char *
reader_line (struct reader *r)
{
  for (;;)
    {
      for (usize i = r->start; i < r->end; i++)
        if (r->buffer[i] == '\n')
          {
            char *line = r->buffer + r->start;
            bool skip = r->skip;
            r->buffer[i] = 0;
            r->start = i + 1;
            r->skip = false;
            if (!skip)
              return line;
          }
      memmove (r->buffer, r->buffer + r->start, r->end - r->start);
      r->end -= r->start;
      r->start = 0;
      if (r->end == sizeof r->buffer - 1)
        {
          r->skip = true;
          r->end = 0;
        }
      /* One that has no end, or grows while it is read, is read up to a limit. */
      long n = r->total > FILE_MAX ? 0 : sys (read, r->fd, r->buffer + r->end, sizeof r->buffer - 1 - r->end);
      if (n > 0)
        {
          r->end += (usize)n;
          r->total += (usize)n;
          continue;
        }
      if (r->end == 0 || r->skip)
        return 0;
      r->buffer[r->end] = 0;
      r->start = r->end = 0;
      return r->buffer;
    }
}

/* Splits at colons, in place; returns how many fields there are, at most `max`. */
static int
split (char *line, char **fields, int max)
{
  int n = 0;
  fields[n++] = line;
  for (; *line; line++)
    if (*line == ':' && n < max)
      {
        *line = 0;
        fields[n++] = line + 1;
      }
  return n;
}

static bool
number (const char *text, uint32_t *value)
{
  const char *at = text;
  uint64_t v = text_parse (&at);
  if (at == text || *at || v > 0xfffffffeu)
    return false;
  *value = (uint32_t)v;
  return true;
}

static bool
same (const char *a, const char *b)
{
  return strcmp (a, b) == 0;
}

/* Fills uid, gid, home and the user's name; by number a user need not be listed. */
static int
find_user (struct identity *id, const char *user, char *name, usize size)
{
  struct reader r;
  uint32_t wanted = 0;
  bool numeric = number (user, &wanted);
  bool found = false;
  char *line;
  char *f[7];

  text_copy (id->home, sizeof id->home, "/");
  if (reader_open (&r, "/etc/passwd") == 0)
    {
      while (!found && (line = reader_line (&r)))
        {
          uint32_t uid, gid;
          if (split (line, f, 7) < 6 || !number (f[2], &uid) || !number (f[3], &gid))
            continue;
          if (!same (f[0], user) && !(numeric && uid == wanted))
            continue;
          found = true;
          id->uid = uid;
          id->gid = gid;
          text_copy (name, size, f[0]);
          text_copy (id->home, sizeof id->home, *f[5] ? f[5] : "/");
        }
      sys (close, r.fd);
    }
  if (!found && !numeric)
    return -ESRCH;
  if (!found)
    id->uid = wanted;
  return 0;
}

static void
add_group (struct identity *id, uint32_t gid)
{
  for (int i = 0; i < id->group_count; i++)
    if (id->groups[i] == gid)
      return;
  if (id->group_count < GROUPS_MAX)
    id->groups[id->group_count++] = gid;
}

static bool
listed (char *members, const char *name)
{
  while (*members)
    {
      char *end = members;
      while (*end && *end != ',')
        end++;
      bool more = *end != 0;
      *end = 0;
      if (same (members, name))
        return true;
      if (!more)
        return false;
      members = end + 1;
    }
  return false;
}

/* One pass over /etc/group: the groups that list `name` (if given), and the one called `wanted` (if given). */
static bool
scan_groups (struct identity *id, const char *name, const char *wanted, uint32_t *gid)
{
  struct reader r;
  bool found = false;
  char *line;
  char *f[4];

  if (reader_open (&r, "/etc/group"))
    return false;
  while ((line = reader_line (&r)))
    {
      uint32_t g;
      int n = split (line, f, 4);
      if (n < 3 || !number (f[2], &g))
        continue;
      if (wanted && !found && same (f[0], wanted))
        {
          *gid = g;
          found = true;
        }
      if (name && *name && n > 3 && listed (f[3], name))
        add_group (id, g);
    }
  sys (close, r.fd);
  return found;
}

static int
group_number (struct identity *id, const char *group, uint32_t *gid)
{
  if (scan_groups (id, 0, group, gid) || number (group, gid))
    return 0;
  return -ESRCH;
}

int
identity_resolve (struct identity *id, const char *user, const char *groups)
{
  char text[256];
  char name[256] = "";
  char *parts[2] = { 0, 0 };
  uint32_t gid;
  int e;

  memset (id, 0, offsetof (struct identity, home));
  text_copy (text, sizeof text, *user ? user : "0");
  split (text, parts, 2);
  e = find_user (id, *parts[0] ? parts[0] : "0", name, sizeof name);
  if (e)
    return e;
  if (parts[1] && *parts[1])
    {
      e = group_number (id, parts[1], &gid);
      if (e)
        return e;
      id->gid = gid;
    }
  else
    scan_groups (id, name, 0, 0);
  add_group (id, id->gid);
  for (; *groups; groups = list_next (groups))
    {
      e = group_number (id, groups, &gid);
      if (e)
        return e;
      add_group (id, gid);
    }
  return 0;
}
