/* Packing: files below a root become a tar stream. See archive.h. */
#include <linux/errno.h>

#include "memory.h"
#include "paths.h"
#include "syscalls.h"
#include "tar.h"
#include "walk.h"

enum
{
  SEND_LEAST = 131072, /* bytes of a file that are worth a sendfile */
  XATTR_LIST = 65536,
  SEEK_DATA = 3,
  SEEK_HOLE = 4
};

struct packer
{
  int out;
  const struct pack_options *options;
  struct archive_error *error;
  struct statx top;
  size_t used;
  size_t pax_size;
  size_t extents;
  int no_sendfile;
  char name[2 * ARCHIVE_PATH_MAX + 32]; /* of the entry in the archive */
  char link[ARCHIVE_PATH_MAX + 1];
  struct tar_extent extent[ARCHIVE_EXTENTS_MAX];
  char map[ARCHIVE_EXTENTS_MAX * 42 + 24];
  char pax[ARCHIVE_META_MAX];
  char value[XATTR_LIST];
  char list[XATTR_LIST];
  char buffer[TAR_BUFFER];
};

static struct packer packer;

static int
fail (struct packer *p, int step, int rc, const char *path)
{
  return archive_fail (p->error, step, rc, path);
}

static int
flag (const struct packer *p, uint32_t which)
{
  return (p->options->flags & which) != 0;
}

/* Output. */

static int
flush (struct packer *p)
{
  long rc = path_write (p->out, p->buffer, p->used);
  p->used = 0;
  return rc < 0 ? fail (p, ARCHIVE_STEP_OUTPUT, (int)rc, p->name) : 0;
}

/* Room in the buffer: at least one byte. Returns its size or -errno. */
static long
room (struct packer *p)
{
  if (p->used == sizeof p->buffer)
    {
      int rc = flush (p);
      if (rc < 0)
        return rc;
    }
  return (long)(sizeof p->buffer - p->used);
}

/* With from NULL: zeros. */
static int
put (struct packer *p, const void *from, uint64_t size)
{
  const char *data = from;
  while (size > 0)
    {
      long n = room (p);
      if (n < 0)
        return (int)n;
      if ((uint64_t)n > size)
        n = (long)size;
      if (data != NULL)
        {
          memcpy (p->buffer + p->used, data, (size_t)n);
          data += n;
        }
      else
        memset (p->buffer + p->used, 0, (size_t)n);
      p->used += (size_t)n;
      size -= (uint64_t)n;
    }
  return 0;
}

static int
put_padding (struct packer *p, uint64_t size)
{
  return put (p, NULL, (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/* Copies by sendfile as far as it goes. Returns the count, 0 also if there's no sendfile here, -errno. */
static long
send_data (struct packer *p, int fd, uint64_t size)
{
  if (p->no_sendfile || size < SEND_LEAST)
    return 0;
  int rc = flush (p);
  if (rc < 0)
    return rc;
  uint64_t done = 0;
  while (done < size)
    {
      uint64_t most = size - done < 0x40000000 ? size - done : 0x40000000;
      long n = sys (sendfile, p->out, fd, NULL, most);
      if (n == -EINTR)
        continue;
      if (n < 0 && done == 0 && (n == -EINVAL || n == -ENOSYS))
        p->no_sendfile = 1;
      else if (n < 0)
        return fail (p, ARCHIVE_STEP_OUTPUT, (int)n, p->name);
      if (n <= 0)
        break;
      done += (uint64_t)n;
    }
  return (long)done;
}

/* Copies `size` bytes from where fd stands; zeros for what isn't there any more. */
static int
put_data (struct packer *p, int fd, uint64_t size)
{
  long sent = send_data (p, fd, size);
  if (sent < 0)
    return (int)sent;
  size -= (uint64_t)sent;
  while (size > 0)
    {
      long n = room (p);
      if (n < 0)
        return (int)n;
      if ((uint64_t)n > size)
        n = (long)size;
      n = path_read (fd, p->buffer + p->used, (size_t)n);
      if (n < 0)
        return fail (p, ARCHIVE_STEP_READ, (int)n, p->name);
      if (n == 0)
        return put (p, NULL, size);
      p->used += (size_t)n;
      size -= (uint64_t)n;
    }
  return 0;
}

/* Headers. */

/* Octal with a zero byte behind. Returns 0 if the number needs more digits. */
static int
put_octal (char *field, size_t size, uint64_t number)
{
  for (size_t i = size - 1; i > 0; i--, number >>= 3)
    field[i - 1] = (char)('0' + (number & 7));
  field[size - 1] = '\0';
  return number == 0;
}

/* Adds "LENGTH KEY=VALUE\n". */
static int
add_record (struct packer *p, const char *prefix, const char *key, const void *value, size_t size)
{
  char digits[24];
  size_t rest = 1 + strlen (prefix) + strlen (key) + 1 + size + 1;
  size_t length = rest + text_number (digits, rest);
  /* The digits count, too, and may then be one more. */
  length = rest + text_number (digits, length);
  text_number (digits, length);
  if (length > sizeof p->pax - p->pax_size)
    return fail (p, ARCHIVE_STEP_LIMIT, -E2BIG, p->name);
  char *to = p->pax + p->pax_size;
  size_t space = length + 1;
  to += text_copy (to, space, digits);
  *to++ = ' ';
  to += text_copy (to, space, prefix);
  to += text_copy (to, space, key);
  *to++ = '=';
  if (size > 0)
    memcpy (to, value, size);
  to[size] = '\n';
  p->pax_size += length;
  return 0;
}

static int
add_number_record (struct packer *p, const char *key, uint64_t number)
{
  char digits[24];
  size_t n = text_number (digits, number);
  return add_record (p, "", key, digits, n);
}

static int
add_time_record (struct packer *p, int64_t seconds, uint32_t ns)
{
  char text[40];
  size_t n = 0;
  if (seconds < 0)
    {
      text[n++] = '-';
      seconds = ns > 0 ? -(seconds + 1) : -seconds;
      ns = ns > 0 ? 1000000000 - ns : 0;
    }
  n += text_number (text + n, (uint64_t)seconds);
  if (ns > 0)
    {
      /* All nine digits: the number with a one before them, which becomes the point. */
      text_number (text + n, 1000000000u + ns);
      text[n] = '.';
      n += 10;
      while (text[n - 1] == '0')
        n--;
    }
  return add_record (p, "", "mtime", text, n);
}

/* A name in the header's own two fields. Returns 0 if it doesn't fit. */
static int
split_name (struct tar_header *h, const char *name)
{
  size_t size = strlen (name);
  if (size <= sizeof h->name)
    {
      memcpy (h->name, name, size);
      return 1;
    }
  for (size_t i = size - 2; i > 0; i--)
    if (name[i] == '/' && size - i - 1 <= sizeof h->name && i <= sizeof h->prefix)
      {
        memcpy (h->prefix, name, i);
        memcpy (h->name, name + i + 1, size - i - 1);
        return 1;
      }
  return 0;
}

static const char *
last_part (const char *name)
{
  const char *last = name;
  for (const char *c = name; *c != '\0'; c++)
    if (*c == '/' && c[1] != '\0')
      last = c + 1;
  return last;
}

/* A stand-in for a name that doesn't fit, for readers that don't know PAX. */
static void
short_name (struct tar_header *h, const char *folder, const char *name)
{
  char text[sizeof h->name + 1];
  size_t n = text_copy (text, sizeof text, folder);
  n += text_copy (text + n, sizeof text - n, last_part (name));
  memcpy (h->name, text, n);
}

static int
put_header (struct packer *p, struct tar_header *h)
{
  memcpy (h->magic, "ustar", 6);
  memcpy (h->version, "00", 2);
  memset (h->checksum, ' ', sizeof h->checksum);
  put_octal (h->checksum, 7, tar_checksum (h));
  return put (p, h, sizeof *h);
}

static int
put_pax (struct packer *p)
{
  if (p->pax_size == 0)
    return 0;
  struct tar_header h;
  memset (&h, 0, sizeof h);
  short_name (&h, "PaxHeaders.0/", p->name);
  put_octal (h.mode, sizeof h.mode, 0644);
  put_octal (h.uid, sizeof h.uid, 0);
  put_octal (h.gid, sizeof h.gid, 0);
  put_octal (h.size, sizeof h.size, p->pax_size);
  put_octal (h.mtime, sizeof h.mtime, 0);
  h.type = 'x';
  int rc = put_header (p, &h);
  if (rc == 0)
    rc = put (p, p->pax, p->pax_size);
  return rc < 0 ? rc : put_padding (p, p->pax_size);
}

static int
fill_owner (struct packer *p, struct tar_header *h, const struct statx *st)
{
  uint32_t uid = flag (p, PACK_ONE_OWNER) ? p->options->uid : st->stx_uid;
  uint32_t gid = flag (p, PACK_ONE_OWNER) ? p->options->gid : st->stx_gid;
  int rc = put_octal (h->uid, sizeof h->uid, uid) ? 0 : add_number_record (p, "uid", uid);
  if (rc == 0 && !put_octal (h->gid, sizeof h->gid, gid))
    rc = add_number_record (p, "gid", gid);
  return rc;
}

static int
fill_time (struct packer *p, struct tar_header *h, const struct statx *st)
{
  int64_t seconds = st->stx_mtime.tv_sec;
  uint32_t ns = flag (p, PACK_NANOSECONDS) ? st->stx_mtime.tv_nsec : 0;
  int fits = put_octal (h->mtime, sizeof h->mtime, seconds < 0 ? 0 : (uint64_t)seconds) && seconds >= 0;
  return fits && ns == 0 ? 0 : add_time_record (p, seconds, ns);
}

static int
fill_names (struct packer *p, struct tar_header *h, int sparse)
{
  size_t link_size = strlen (p->link);
  int rc = 0;
  if (sparse)
    short_name (h, "GNUSparseFile.0/", p->name);
  else if (!split_name (h, p->name))
    {
      short_name (h, "", p->name);
      rc = add_record (p, "", "path", p->name, strlen (p->name));
    }
  if (link_size <= sizeof h->link)
    memcpy (h->link, p->link, link_size);
  else if (rc == 0)
    {
      memcpy (h->link, p->link, sizeof h->link);
      rc = add_record (p, "", "linkpath", p->link, link_size);
    }
  return rc;
}

/* The header of p->name, with the PAX records collected so far and those that it needs. */
static int
put_entry (struct packer *p, char type, const struct statx *st, uint64_t size, int sparse)
{
  struct tar_header h;
  memset (&h, 0, sizeof h);
  h.type = type;
  put_octal (h.mode, sizeof h.mode, st->stx_mode & 07777);
  int rc = fill_names (p, &h, sparse);
  if (rc == 0)
    rc = fill_owner (p, &h, st);
  if (rc == 0)
    rc = fill_time (p, &h, st);
  if (rc == 0 && !put_octal (h.size, sizeof h.size, size))
    rc = add_number_record (p, "size", size);
  int is_device = type == TAR_CHAR || type == TAR_BLOCK_DEVICE;
  put_octal (h.major, sizeof h.major, is_device ? st->stx_rdev_major : 0);
  put_octal (h.minor, sizeof h.minor, is_device ? st->stx_rdev_minor : 0);
  if (rc == 0)
    rc = put_pax (p);
  return rc < 0 ? rc : put_header (p, &h);
}

/* Extended attributes. */

static int
add_xattr (struct packer *p, int fd, const char *name)
{
  /* A key of a PAX record can't have the sign. */
  if (!path_xattr_is_portable (name) || memchr (name, '=', strlen (name)) != NULL)
    return 0;
  long n = sys (fgetxattr, fd, name, p->value, sizeof p->value);
  if (n == -ENODATA)
    return 0;
  if (n < 0)
    return fail (p, ARCHIVE_STEP_XATTR, (int)n, p->name);
  return add_record (p, "SCHILY.xattr.", name, p->value, (size_t)n);
}

/* In the order of their names, which the file system doesn't promise: that of the last one stands in `after`. */
static const char *
next_xattr (const struct packer *p, size_t size, const char *after)
{
  const char *next = NULL;
  for (size_t at = 0; at < size; at += strlen (p->list + at) + 1)
    {
      const char *name = p->list + at;
      if ((after == NULL || strcmp (name, after) > 0) && (next == NULL || strcmp (name, next) < 0))
        next = name;
    }
  return next;
}

static int
add_xattrs (struct packer *p, int fd)
{
  long size = sys (flistxattr, fd, p->list, sizeof p->list);
  if (size == -EOPNOTSUPP || size == -EPERM)
    return 0;
  if (size < 0)
    return fail (p, ARCHIVE_STEP_XATTR, (int)size, p->name);
  int rc = 0;
  const char *name = NULL;
  while (rc == 0 && (name = next_xattr (p, (size_t)size, name)) != NULL)
    rc = add_xattr (p, fd, name);
  return rc;
}

/* Files with holes. */

/* Finds the file's data. Returns 0, with no extents also if it isn't worth it. */
static int
find_extents (struct packer *p, int fd, const struct statx *st, int *sparse)
{
  int64_t at = 0;
  int64_t size = (int64_t)st->stx_size;
  *sparse = 0;
  p->extents = 0;
  if (!flag (p, PACK_SPARSE) || st->stx_blocks >= (st->stx_size + TAR_BLOCK - 1) / TAR_BLOCK)
    return 0;
  while (at < size)
    {
      int64_t data = sys (lseek, fd, at, SEEK_DATA);
      if (data == -ENXIO || data >= size)
        break;
      /* The last one takes all that is left, holes included; one place is kept for the file's end. */
      int64_t hole = p->extents + 2 < ARCHIVE_EXTENTS_MAX ? sys (lseek, fd, data, SEEK_HOLE) : size;
      if (data < 0 || hole < 0)
        return 0;
      hole = hole < size ? hole : size;
      if (hole <= data)
        return 0;
      p->extent[p->extents++] = (struct tar_extent){ (uint64_t)data, (uint64_t)(hole - data) };
      at = hole;
    }
  if (at < size)
    p->extent[p->extents++] = (struct tar_extent){ (uint64_t)size, 0 };
  *sparse = 1;
  return 0;
}

static size_t
write_map (struct packer *p)
{
  size_t n = text_number (p->map, p->extents);
  p->map[n++] = '\n';
  for (size_t i = 0; i < p->extents; i++)
    {
      n += text_number (p->map + n, p->extent[i].offset);
      p->map[n++] = '\n';
      n += text_number (p->map + n, p->extent[i].size);
      p->map[n++] = '\n';
    }
  return n;
}

static int
put_sparse (struct packer *p, int fd, const struct statx *st)
{
  size_t map_size = write_map (p);
  uint64_t data = 0;
  for (size_t i = 0; i < p->extents; i++)
    data += p->extent[i].size;
  uint64_t size = map_size + (TAR_BLOCK - map_size % TAR_BLOCK) % TAR_BLOCK + data;
  int rc = add_number_record (p, "GNU.sparse.major", 1);
  if (rc == 0)
    rc = add_number_record (p, "GNU.sparse.minor", 0);
  if (rc == 0)
    rc = add_record (p, "", "GNU.sparse.name", p->name, strlen (p->name));
  if (rc == 0)
    rc = add_number_record (p, "GNU.sparse.realsize", st->stx_size);
  if (rc == 0)
    rc = put_entry (p, TAR_FILE, st, size, 1);
  if (rc == 0)
    rc = put (p, p->map, map_size);
  if (rc == 0)
    rc = put_padding (p, map_size);
  for (size_t i = 0; rc == 0 && i < p->extents; i++)
    {
      sys (lseek, fd, p->extent[i].offset, 0);
      rc = put_data (p, fd, p->extent[i].size);
    }
  return rc < 0 ? rc : put_padding (p, size);
}

/* The kinds of entries. */

/* Puts a whiteout's OCI form: an empty file, beside or inside of what p->name is. */
static int
put_whiteout (struct packer *p, const struct statx *st, int opaque)
{
  struct statx plain = *st;
  plain.stx_mode = S_IFREG;
  size_t n = strlen (p->name);
  if (n + 14 >= sizeof p->name)
    return fail (p, ARCHIVE_STEP_LIMIT, -ENAMETOOLONG, p->name);
  if (opaque)
    text_copy (p->name + n, sizeof p->name - n, ".wh..wh..opq");
  else
    {
      char *last = p->name + (last_part (p->name) - p->name);
      memmove (last + 4, last, strlen (last) + 1);
      memcpy (last, ".wh.", 4);
    }
  p->pax_size = 0;
  p->link[0] = '\0';
  return put_entry (p, TAR_FILE, &plain, 0, 0);
}

static int
pack_content (struct packer *p, int fd, const struct statx *st)
{
  int sparse;
  int rc = add_xattrs (p, fd);
  if (rc == 0)
    rc = find_extents (p, fd, st, &sparse);
  if (rc < 0)
    return rc;
  if (sparse)
    return put_sparse (p, fd, st);
  if (flag (p, PACK_SPARSE))
    sys (lseek, fd, 0, 0);
  rc = put_entry (p, TAR_FILE, st, st->stx_size, 0);
  if (rc == 0)
    rc = put_data (p, fd, st->stx_size);
  return rc < 0 ? rc : put_padding (p, st->stx_size);
}

/* Opens a regular file for reading: by its descriptor, so that nothing else is opened, such as a device that a container
   put in its place. Without /proc by its name; then it may be another one. */
static int
open_file (const struct walk_item *item)
{
  int fd = path_reopen (item->fd, O_RDONLY | O_NONBLOCK);
  if (fd != -ENOENT || item->dir < 0)
    return fd;
  int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  CLOSED int named = (int)sys (openat, item->dir, item->name, flags, 0);
  struct statx st;
  int rc = named < 0 ? named : path_stat (named, "", &st);
  if (rc < 0)
    return rc;
  return path_same_file (&st, &item->st) ? path_steal (&named) : -ESTALE;
}

static int
pack_file (struct packer *p, const struct walk_item *item)
{
  if (flag (p, PACK_ONE_MOUNT) && !path_same_mount (&item->st, &p->top))
    return put_entry (p, TAR_FILE, &item->st, 0, 0);
  CLOSED int fd = open_file (item);
  if (fd < 0)
    return fail (p, ARCHIVE_STEP_OPEN, fd, p->name);
  if (flag (p, PACK_WHITEOUTS) && item->st.stx_size == 0 && path_overlay_mark (fd, "whiteout", flag (p, PACK_USERXATTR)) == 'y')
    return put_whiteout (p, &item->st, 0);
  return pack_content (p, fd, &item->st);
}

static int
pack_directory (struct packer *p, const struct walk_item *item)
{
  size_t n = strlen (p->name);
  int crosses = flag (p, PACK_ONE_MOUNT) && !path_same_mount (&item->st, &p->top);
  CLOSED int fd = crosses ? -1 : (int)sys (openat, item->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (!crosses && fd < 0)
    return fail (p, ARCHIVE_STEP_OPEN, fd, p->name);
  int rc = 0;
  int opaque = 0;
  if (fd >= 0)
    {
      opaque = flag (p, PACK_WHITEOUTS) && path_overlay_mark (fd, "opaque", flag (p, PACK_USERXATTR)) == 'y';
      rc = add_xattrs (p, fd);
    }
  /* The top without a name has no entry. */
  if (n > 0)
    {
      text_copy (p->name + n, sizeof p->name - n, "/");
      if (rc == 0)
        rc = put_entry (p, TAR_DIRECTORY, &item->st, 0, 0);
    }
  if (rc == 0 && opaque)
    rc = put_whiteout (p, &item->st, 1);
  return rc < 0 ? rc : crosses ? WALK_SKIP : 0;
}

static int
pack_symlink (struct packer *p, const struct walk_item *item)
{
  long n = sys (readlinkat, item->fd, "", p->link, ARCHIVE_PATH_MAX);
  if (n < 0)
    return fail (p, ARCHIVE_STEP_READ, (int)n, p->name);
  p->link[n] = '\0';
  return put_entry (p, TAR_SYMLINK, &item->st, 0, 0);
}

static int
pack_item (struct packer *p, const struct walk_item *item)
{
  uint32_t mode = item->st.stx_mode;
  p->pax_size = 0;
  p->link[0] = '\0';
  if (S_ISSOCK (mode))
    return 0;
  if (S_ISDIR (mode))
    return pack_directory (p, item);
  if (flag (p, PACK_WHITEOUTS) && path_is_whiteout (&item->st))
    return put_whiteout (p, &item->st, 0);
  if (item->st.stx_nlink > 1)
    {
      const char *first = strlen (p->name) <= ARCHIVE_PATH_MAX ? links_first (&item->st, p->name) : NULL;
      if (first != NULL)
        {
          text_copy (p->link, sizeof p->link, first);
          return put_entry (p, TAR_HARD_LINK, &item->st, 0, 0);
        }
    }
  if (S_ISREG (mode))
    return pack_file (p, item);
  if (S_ISLNK (mode))
    return pack_symlink (p, item);
  char type = S_ISFIFO (mode) ? TAR_FIFO : S_ISCHR (mode) ? TAR_CHAR : TAR_BLOCK_DEVICE;
  return put_entry (p, type, &item->st, 0, 0);
}

static int
pack_below (void *context, const struct walk_item *item)
{
  struct packer *p = context;
  size_t n = 0;
  if (p->options->name != NULL && p->options->name[0] != '\0')
    {
      n = text_copy (p->name, ARCHIVE_PATH_MAX, p->options->name);
      if (p->name[n - 1] != '/')
        p->name[n++] = '/';
    }
  text_copy (p->name + n, sizeof p->name - n, item->path);
  return pack_item (p, item);
}

/* The name of the packed file or directory itself. */
static void
name_top (struct packer *p, const char *path, int directory)
{
  const char *name = p->options->name;
  size_t n = 0;
  if (name != NULL && name[0] != '\0')
    n = text_copy (p->name, ARCHIVE_PATH_MAX, name);
  else if (!directory)
    n = text_copy (p->name, ARCHIVE_PATH_MAX, last_part (path));
  while (n > 0 && p->name[n - 1] == '/')
    n--;
  p->name[n] = '\0';
}

static int
pack_all (struct packer *p, int root, const char *path)
{
  CLOSED int fd = path_open (root, path, flag (p, PACK_FOLLOW) ? 0 : PATH_NO_FOLLOW);
  struct walk_item item = { .dir = -1, .fd = fd, .name = path, .path = "" };
  if (fd < 0)
    return fail (p, ARCHIVE_STEP_RESOLVE, fd, path);
  int rc = path_stat (fd, "", &p->top);
  if (rc < 0)
    return fail (p, ARCHIVE_STEP_OPEN, rc, path);
  item.st = p->top;
  int directory = S_ISDIR (p->top.stx_mode);
  name_top (p, path, directory);
  rc = pack_item (p, &item);
  if (rc == 0 && directory)
    rc = walk_below (fd, WALK_OPEN, pack_below, p, p->error);
  if (rc == 0)
    rc = put (p, NULL, 2 * TAR_BLOCK);
  return rc < 0 ? rc : flush (p);
}

int
archive_pack (int root_fd, const char *path, int out_fd, const struct pack_options *options, struct archive_error *error)
{
  struct packer *p = &packer;
  p->out = out_fd;
  p->options = options;
  p->error = error;
  p->used = 0;
  p->no_sendfile = 0;
  links_begin ();
  return pack_all (p, root_fd, path);
}
