/* The tar reader: see tar.h. */
#include "tar.h"

#include <linux/errno.h>

#include "memory.h"
#include "paths.h"
#include "syscalls.h"

/* What extended headers say of the entry that follows them; `has` is a set of enum field. */
struct extended
{
  unsigned has;
  uint64_t size;
  uint64_t uid;
  uint64_t gid;
  int64_t mtime;
  uint32_t mtime_ns;
  uint64_t real_size;
  uint64_t sparse_major;
  size_t extents;
  int half;    /* a sparse offset came, its size not yet */
  int has_pax; /* one PAX header fills the reader's buffer */
};

enum field
{
  HAS_PATH = 1,
  HAS_LINK = 2,
  HAS_SIZE = 4,
  HAS_UID = 8,
  HAS_GID = 16,
  HAS_MTIME = 32,
  HAS_SPARSE_NAME = 64,
  HAS_REAL_SIZE = 128,
  HAS_SPARSE = 256
};

enum
{
  MAX_HEADERS = 16 /* extended headers before one entry */
};

static const uint64_t SIZE_LIMIT = INT64_MAX - TAR_BLOCK;

static int
corrupt (struct tar_reader *r, int rc)
{
  return archive_fail (r->error, ARCHIVE_STEP_CORRUPT, rc, r->entry.path);
}

static int
limit (struct tar_reader *r, int rc)
{
  return archive_fail (r->error, ARCHIVE_STEP_LIMIT, rc, r->entry.path);
}

void
tar_begin (struct tar_reader *r, int fd, const struct tar_limits *limits, struct archive_error *error)
{
  r->fd = fd;
  r->at_end = 0;
  r->data_left = 0;
  r->skip_left = 0;
  r->start = 0;
  r->end = 0;
  r->limits = *limits;
  if (r->limits.path == 0 || r->limits.path > ARCHIVE_PATH_MAX)
    r->limits.path = ARCHIVE_PATH_MAX;
  r->error = error;
  r->entry.path[0] = '\0';
}

/* Reads more into the buffer. Returns the count, 0 at the stream's end, -errno. */
static long
fill (struct tar_reader *r)
{
  if (r->start == r->end)
    r->start = r->end = 0;
  if (r->end == TAR_BUFFER)
    {
      memmove (r->buffer, r->buffer + r->start, r->end - r->start);
      r->end -= r->start;
      r->start = 0;
    }
  long n = r->at_end ? 0 : path_read (r->fd, r->buffer + r->end, TAR_BUFFER - r->end);
  if (n < 0)
    return archive_fail (r->error, ARCHIVE_STEP_READ, (int)n, r->entry.path);
  if (n == 0)
    r->at_end = 1;
  r->end += (size_t)n;
  return n;
}

int
tar_drain (struct tar_reader *r)
{
  long n;
  do
    {
      r->start = r->end = 0;
      n = fill (r);
    }
  while (n > 0);
  return (int)n;
}

/* Gives up to `most` bytes. Returns the count, or -errno; the stream's end is an error here. */
static long
take (struct tar_reader *r, uint64_t most, const char **data)
{
  if (r->start == r->end)
    {
      long n = fill (r);
      if (n < 0)
        return n;
      if (n == 0)
        return corrupt (r, -ENODATA);
    }
  size_t n = r->end - r->start;
  if (n > most)
    n = (size_t)most;
  *data = r->buffer + r->start;
  r->start += n;
  return (long)n;
}

static int
skip (struct tar_reader *r, uint64_t count)
{
  const char *data;
  while (count > 0)
    {
      long n = take (r, count, &data);
      if (n < 0)
        return (int)n;
      count -= (uint64_t)n;
    }
  return 0;
}

/* Gives one block, whole. Returns 1, 0 at the stream's end, -errno. */
static int
take_block (struct tar_reader *r, const char **block)
{
  while (r->end - r->start < TAR_BLOCK)
    {
      long n = fill (r);
      if (n < 0)
        return (int)n;
      if (n == 0)
        return r->start == r->end ? 0 : corrupt (r, -ENODATA);
    }
  *block = r->buffer + r->start;
  r->start += TAR_BLOCK;
  return 1;
}

static void
expect_data (struct tar_reader *r, uint64_t size)
{
  r->data_left = size;
  r->skip_left = (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

long
tar_data (struct tar_reader *r, const char **data)
{
  if (r->data_left == 0)
    return 0;
  long n = take (r, r->data_left, data);
  if (n > 0)
    r->data_left -= (uint64_t)n;
  return n;
}

/* Octal between spaces or zero bytes, or base 256 if the first bit is set. Returns 0 or -EINVAL. */
static int
parse_number (const char *field, size_t size, int64_t *number)
{
  const unsigned char *p = (const unsigned char *)field;
  const unsigned char *end = p + size;
  uint64_t n = 0;
  if (*p & 0x80)
    {
      int negative = (*p & 0x40) != 0;
      unsigned char flip = negative ? 0xff : 0;
      n = (*p++ ^ flip) & 0x3f;
      for (; p < end; p++)
        {
          if (n >> 55)
            return -EINVAL;
          n = n << 8 | (*p ^ flip);
        }
      *number = negative ? -(int64_t)n - 1 : (int64_t)n;
      return 0;
    }
  while (p < end && (*p == ' ' || *p == '\0'))
    p++;
  for (; p < end && *p >= '0' && *p <= '7'; p++)
    n = n << 3 | (unsigned)(*p - '0');
  while (p < end && (*p == ' ' || *p == '\0'))
    p++;
  *number = (int64_t)n;
  return p == end ? 0 : -EINVAL;
}

static int
parse_unsigned (const char *field, size_t size, uint64_t most, uint64_t *number)
{
  int64_t n;
  if (parse_number (field, size, &n) < 0 || n < 0 || (uint64_t)n > most)
    return -EINVAL;
  *number = (uint64_t)n;
  return 0;
}

/* Decimal digits up to the byte `stop`; *text is set behind it. Returns 0 or -EINVAL. */
static int
parse_decimal (const char **text, const char *end, char stop, uint64_t *number)
{
  const char *p = *text;
  uint64_t n = 0;
  while (p < end && *p >= '0' && *p <= '9')
    {
      if (n > (SIZE_LIMIT - 9) / 10)
        return -EINVAL;
      n = n * 10 + (unsigned)(*p++ - '0');
    }
  if (p == *text || p == end || *p != stop)
    return -EINVAL;
  *text = p + 1;
  *number = n;
  return 0;
}

unsigned
tar_checksum (const struct tar_header *h)
{
  const unsigned char *p = (const unsigned char *)h;
  unsigned sum = 0;
  for (size_t i = 0; i < TAR_BLOCK; i++)
    sum += p[i];
  for (size_t i = 0; i < sizeof h->checksum; i++)
    sum += ' ' - (unsigned)(unsigned char)h->checksum[i];
  return sum;
}

/* Some old archivers took the sum of signed bytes. */
static int
checksum_matches (const struct tar_header *h)
{
  int64_t said;
  if (parse_number (h->checksum, sizeof h->checksum, &said) < 0)
    return 0;
  unsigned sum = tar_checksum (h);
  if (said == (int64_t)sum)
    return 1;
  const signed char *p = (const signed char *)h;
  int64_t negatives = 0;
  for (size_t i = 0; i < TAR_BLOCK; i++)
    if (p[i] < 0 && !(i >= offsetof (struct tar_header, checksum) && i < offsetof (struct tar_header, type)))
      negatives++;
  return said == (int64_t)sum - 256 * negatives;
}

static int
is_zero (const char *block)
{
  for (size_t i = 0; i < TAR_BLOCK; i++)
    if (block[i] != '\0')
      return 0;
  return 1;
}

/* A name that extended headers carry. Returns 0 or -errno with the error filled. */
static int
take_name (struct tar_reader *r, char *to, const char *from, size_t size)
{
  if (memchr (from, '\0', size) != NULL)
    return corrupt (r, -EINVAL);
  if (size > r->limits.path)
    return limit (r, -ENAMETOOLONG);
  memcpy (to, from, size);
  to[size] = '\0';
  return 0;
}

static int
add_extent (struct tar_reader *r, struct extended *x, uint64_t offset, uint64_t size)
{
  uint64_t least = x->extents > 0 ? r->extent[x->extents - 1].offset + r->extent[x->extents - 1].size : 0;
  if (offset < least || offset > SIZE_LIMIT || size > SIZE_LIMIT - offset)
    return corrupt (r, -EINVAL);
  if (x->extents == ARCHIVE_EXTENTS_MAX)
    return limit (r, -E2BIG);
  r->extent[x->extents].offset = offset;
  r->extent[x->extents++].size = size;
  return 0;
}

/* PAX sparse 0.1: all numbers in one record, with commas. The record's value ends with a newline. */
static int
parse_sparse_map (struct tar_reader *r, struct extended *x, const char *value, const char *end)
{
  x->extents = 0;
  x->has |= HAS_SPARSE;
  while (value < end)
    {
      uint64_t offset;
      uint64_t size;
      if (parse_decimal (&value, end, ',', &offset) < 0)
        return corrupt (r, -EINVAL);
      char stop = memchr (value, ',', (size_t)(end - value)) != NULL ? ',' : '\n';
      if (parse_decimal (&value, end, stop, &size) < 0)
        return corrupt (r, -EINVAL);
      int rc = add_extent (r, x, offset, size);
      if (rc < 0)
        return rc;
    }
  return 0;
}

/* PAX sparse 0.0: a pair of records for each extent. */
static int
parse_sparse_pair (struct tar_reader *r, struct extended *x, int is_offset, uint64_t number)
{
  x->has |= HAS_SPARSE;
  if (is_offset)
    {
      if (x->half)
        return corrupt (r, -EINVAL);
      x->half = 1;
      return add_extent (r, x, number, 0);
    }
  if (!x->half || number > SIZE_LIMIT - r->extent[x->extents - 1].offset)
    return corrupt (r, -EINVAL);
  x->half = 0;
  r->extent[x->extents - 1].size = number;
  return 0;
}

static int
parse_sparse (struct tar_reader *r, struct extended *x, const char *key, const char *value, const char *end)
{
  uint64_t number = 0;
  if (strcmp (key, "name") == 0)
    {
      x->has |= HAS_SPARSE_NAME;
      return take_name (r, r->entry.path, value, (size_t)(end - value) - 1);
    }
  if (strcmp (key, "map") == 0)
    return parse_sparse_map (r, x, value, end);
  if (parse_decimal (&value, end, '\n', &number) < 0)
    return corrupt (r, -EINVAL);
  if (strcmp (key, "offset") == 0)
    return parse_sparse_pair (r, x, 1, number);
  if (strcmp (key, "numbytes") == 0)
    return parse_sparse_pair (r, x, 0, number);
  if (strcmp (key, "size") == 0 || strcmp (key, "realsize") == 0)
    {
      x->real_size = number;
      x->has |= HAS_REAL_SIZE;
    }
  else if (strcmp (key, "major") == 0)
    {
      x->sparse_major = number;
      x->has |= HAS_SPARSE;
    }
  return 0;
}

/* Seconds with a fraction, maybe negative: -0.25 is 0.75 s after -1. */
static int
parse_time (struct extended *x, const char *p, const char *end)
{
  int negative = *p == '-';
  p += negative;
  uint64_t seconds = 0;
  const char *digits = p;
  for (; p < end && *p >= '0' && *p <= '9'; p++)
    {
      if (seconds > SIZE_LIMIT / 16)
        return -EINVAL;
      seconds = seconds * 10 + (unsigned)(*p - '0');
    }
  uint32_t ns = 0;
  if (p == digits)
    return -EINVAL;
  if (*p == '.')
    {
      p++;
      for (uint32_t unit = 100000000; *p >= '0' && *p <= '9'; p++, unit /= 10)
        ns += unit * (unsigned)(*p - '0');
    }
  if (*p != '\n')
    return -EINVAL;
  x->mtime = negative ? -(int64_t)seconds : (int64_t)seconds;
  x->mtime_ns = ns;
  if (negative && ns > 0)
    {
      x->mtime--;
      x->mtime_ns = 1000000000 - ns;
    }
  x->has |= HAS_MTIME;
  return 0;
}

static int
parse_xattr (struct tar_reader *r, const char *name, const char *value, size_t size)
{
  struct tar_entry *e = &r->entry;
  uint64_t sum = size;
  for (size_t i = 0; i < e->xattrs; i++)
    sum += e->xattr[i].size;
  if (e->xattrs == ARCHIVE_XATTRS_MAX || (r->limits.xattr > 0 && sum > r->limits.xattr))
    return limit (r, -E2BIG);
  e->xattr[e->xattrs].name = name;
  e->xattr[e->xattrs].value = value;
  e->xattr[e->xattrs++].size = size;
  return 0;
}

/* One PAX record: its key ends with a zero byte, its value with the newline at end[-1]. An empty value takes back what
   an earlier record said. */
static int
parse_record (struct tar_reader *r, struct extended *x, const char *key, const char *value, const char *end)
{
  size_t size = (size_t)(end - value) - 1;
  if (text_starts (key, "SCHILY.xattr."))
    return parse_xattr (r, key + 13, value, size);
  if (text_starts (key, "GNU.sparse."))
    return parse_sparse (r, x, key + 11, value, end);
  static const struct
  {
    const char *key;
    unsigned has;
  } known[] = { { "path", HAS_PATH }, { "linkpath", HAS_LINK }, { "size", HAS_SIZE },
                { "uid", HAS_UID },   { "gid", HAS_GID },       { "mtime", HAS_MTIME } };
  size_t i = 0;
  while (i < sizeof known / sizeof *known && strcmp (key, known[i].key) != 0)
    i++;
  if (i == sizeof known / sizeof *known)
    return 0;
  x->has &= ~known[i].has;
  if (size == 0)
    return 0;
  x->has |= known[i].has;
  int rc = 0;
  if (known[i].has == HAS_PATH)
    return x->has & HAS_SPARSE_NAME ? 0 : take_name (r, r->entry.path, value, size);
  if (known[i].has == HAS_LINK)
    return take_name (r, r->entry.link, value, size);
  if (known[i].has == HAS_SIZE)
    rc = parse_decimal (&value, end, '\n', &x->size);
  else if (known[i].has == HAS_UID)
    rc = parse_decimal (&value, end, '\n', &x->uid);
  else if (known[i].has == HAS_GID)
    rc = parse_decimal (&value, end, '\n', &x->gid);
  else
    rc = parse_time (x, value, end);
  return rc < 0 ? corrupt (r, rc) : 0;
}

static int
skip_rest (struct tar_reader *r)
{
  int rc = skip (r, r->data_left);
  r->data_left = 0;
  if (rc == 0)
    rc = skip (r, r->skip_left);
  r->skip_left = 0;
  return rc;
}

/* The data of an extended header, into `to`, which has room for `most` and a zero byte behind. */
static int
read_meta (struct tar_reader *r, uint64_t size, char *to, uint64_t most)
{
  if (size > most)
    return limit (r, -E2BIG);
  expect_data (r, size);
  const char *data;
  long n;
  while ((n = tar_data (r, &data)) > 0)
    {
      memcpy (to, data, (size_t)n);
      to += n;
    }
  *to = '\0';
  return n < 0 ? (int)n : skip_rest (r);
}

/* Records "LENGTH KEY=VALUE\n", LENGTH being that of the whole. */
static int
parse_pax (struct tar_reader *r, struct extended *x, char *p, char *end)
{
  while (p < end)
    {
      const char *text = p;
      uint64_t length;
      if (parse_decimal (&text, end, ' ', &length) < 0 || length > (uint64_t)(end - p))
        return corrupt (r, -EINVAL);
      char *stop = p + length;
      if (text >= stop || stop[-1] != '\n')
        return corrupt (r, -EINVAL);
      char *key = p + (text - p);
      char *equals = memchr (key, '=', (size_t)(stop - key));
      if (equals == NULL || equals == key || memchr (key, '\0', (size_t)(equals - key)) != NULL)
        return corrupt (r, -EINVAL);
      *equals = '\0';
      int rc = parse_record (r, x, key, equals + 1, stop);
      if (rc < 0)
        return rc;
      p = stop;
    }
  return 0;
}

/* A GNU header whose data is the name of the next entry, with a zero byte. */
static int
parse_long_name (struct tar_reader *r, uint64_t size, char *to)
{
  int rc = read_meta (r, size, r->long_name, (uint64_t)r->limits.path + 1);
  if (rc < 0)
    return rc;
  return take_name (r, to, r->long_name, text_length (r->long_name, (size_t)size));
}

/* Up to four or more extents of old GNU headers; an empty one ends them. */
static int
parse_old_extents (struct tar_reader *r, struct extended *x, const char *p, size_t count)
{
  for (; count > 0 && p[0] != '\0'; count--, p += 24)
    {
      uint64_t offset;
      uint64_t size;
      if (parse_unsigned (p, 12, SIZE_LIMIT, &offset) < 0 || parse_unsigned (p + 12, 12, SIZE_LIMIT, &size) < 0)
        return corrupt (r, -EINVAL);
      int rc = add_extent (r, x, offset, size);
      if (rc < 0)
        return rc;
    }
  return 0;
}

enum
{
  OLD_EXTENTS = 386, /* where an old GNU header has its 4 extents, a byte "more follow", and the file's real size */
  OLD_MORE = 482,
  OLD_REAL_SIZE = 483,
  OLD_BLOCK_EXTENTS = 21, /* how many the blocks that follow have; then the same byte */
  OLD_BLOCK_MORE = 504
};

static int
parse_old_sparse (struct tar_reader *r, struct extended *x, const char *block)
{
  x->extents = 0;
  x->has |= HAS_SPARSE | HAS_REAL_SIZE;
  if (parse_unsigned (block + OLD_REAL_SIZE, 12, SIZE_LIMIT, &x->real_size) < 0)
    return corrupt (r, -EINVAL);
  int more = block[OLD_MORE] != '\0';
  int rc = parse_old_extents (r, x, block + OLD_EXTENTS, 4);
  while (rc == 0 && more)
    {
      rc = take_block (r, &block);
      if (rc <= 0)
        return rc < 0 ? rc : corrupt (r, -ENODATA);
      more = block[OLD_BLOCK_MORE] != '\0';
      rc = parse_old_extents (r, x, block, OLD_BLOCK_EXTENTS);
    }
  return rc;
}

/* A decimal line of a PAX 1.0 sparse map, which stands before the file's data. */
static int
read_map_number (struct tar_reader *r, uint64_t *number)
{
  char line[24];
  size_t n = 0;
  do
    {
      const char *data = NULL;
      if (n == sizeof line || r->data_left == 0 || take (r, 1, &data) != 1)
        return corrupt (r, -EINVAL);
      r->data_left--;
      line[n++] = *data;
    }
  while (line[n - 1] != '\n');
  const char *text = line;
  return parse_decimal (&text, line + n, '\n', number) < 0 ? corrupt (r, -EINVAL) : 0;
}

static int
read_sparse_map (struct tar_reader *r, struct extended *x)
{
  uint64_t count;
  uint64_t before = r->data_left;
  int rc = read_map_number (r, &count);
  x->extents = 0;
  for (uint64_t i = 0; rc == 0 && i < count; i++)
    {
      uint64_t offset;
      uint64_t size;
      if ((rc = read_map_number (r, &offset)) == 0 && (rc = read_map_number (r, &size)) == 0)
        rc = add_extent (r, x, offset, size);
    }
  if (rc < 0)
    return rc;
  uint64_t padding = (TAR_BLOCK - (before - r->data_left) % TAR_BLOCK) % TAR_BLOCK;
  if (padding > r->data_left)
    return corrupt (r, -EINVAL);
  r->data_left -= padding;
  return skip (r, padding);
}

/* Holds a sparse file's extents against its sizes. */
static int
finish_sparse (struct tar_reader *r, struct extended *x)
{
  struct tar_entry *e = &r->entry;
  int rc = x->sparse_major == 1 ? read_sparse_map (r, x) : 0;
  if (rc < 0)
    return rc;
  uint64_t sum = 0;
  for (size_t i = 0; i < x->extents; i++)
    sum += r->extent[i].size;
  const struct tar_extent *last = x->extents > 0 ? &r->extent[x->extents - 1] : NULL;
  if (x->half || sum != r->data_left || !(x->has & HAS_REAL_SIZE) || (last != NULL && last->offset + last->size > x->real_size))
    return corrupt (r, -EINVAL);
  e->sparse = 1;
  e->extents = x->extents;
  e->size = x->real_size;
  return 0;
}

static void
copy_field (char *to, const char *field, size_t size)
{
  size_t n = text_length (field, size);
  memcpy (to, field, n);
  to[n] = '\0';
}

/* The name of a header without extended ones. */
static void
header_name (struct tar_entry *e, const struct tar_header *h)
{
  size_t n = 0;
  /* GNU's magic is "ustar  \0", and it has no prefix; star's prefix is shorter, with times behind it. */
  if (memcmp (h->magic, "ustar", 6) == 0 && h->prefix[0] != '\0')
    {
      size_t size = memcmp ((const char *)h + 508, "tar", 4) == 0 ? 131 : sizeof h->prefix;
      copy_field (e->path, h->prefix, size);
      n = strlen (e->path);
      e->path[n++] = '/';
    }
  copy_field (e->path + n, h->name, sizeof h->name);
}

static int
header_numbers (struct tar_reader *r, const struct tar_header *h, struct extended *x)
{
  struct tar_entry *e = &r->entry;
  uint64_t mode;
  uint64_t uid;
  uint64_t gid;
  uint64_t major = 0;
  uint64_t minor = 0;
  int64_t mtime;
  int is_device = h->type == TAR_CHAR || h->type == TAR_BLOCK_DEVICE;
  if (parse_unsigned (h->mode, sizeof h->mode, UINT32_MAX, &mode) < 0
      || parse_unsigned (h->uid, sizeof h->uid, INT64_MAX, &uid) < 0
      || parse_unsigned (h->gid, sizeof h->gid, INT64_MAX, &gid) < 0 || parse_number (h->mtime, sizeof h->mtime, &mtime) < 0
      || (is_device && parse_unsigned (h->major, sizeof h->major, 0xfff, &major) < 0)
      || (is_device && parse_unsigned (h->minor, sizeof h->minor, 0xfffff, &minor) < 0))
    return corrupt (r, -EINVAL);
  uid = x->has & HAS_UID ? x->uid : uid;
  gid = x->has & HAS_GID ? x->gid : gid;
  /* The last one means "leave it" to chown. */
  if (uid >= UINT32_MAX || gid >= UINT32_MAX)
    return corrupt (r, -EINVAL);
  e->mode = (uint32_t)mode & 07777;
  e->uid = (uint32_t)uid;
  e->gid = (uint32_t)gid;
  e->major = (uint32_t)major;
  e->minor = (uint32_t)minor;
  e->mtime = x->has & HAS_MTIME ? x->mtime : mtime;
  e->mtime_ns = x->has & HAS_MTIME ? x->mtime_ns : 0;
  return 0;
}

/* The kind of an entry. Returns enum tar_type, 0 for what is to be skipped, -errno with the error filled. */
static int
header_type (struct tar_reader *r, const struct tar_header *h)
{
  size_t n = strlen (r->entry.path);
  switch (h->type)
    {
    case '\0':
      return n > 0 && r->entry.path[n - 1] == '/' ? TAR_DIRECTORY : TAR_FILE;
    case '7':
    case 'S':
      return TAR_FILE;
    case 'V':
      return 0;
    default:
      return h->type >= TAR_FILE && h->type <= TAR_FIFO ? h->type : corrupt (r, -EOPNOTSUPP);
    }
}

/* The entry itself, after its extended headers. Returns 1, 0 for one to be skipped, -errno. */
static int
parse_entry (struct tar_reader *r, const struct tar_header *h, struct extended *x)
{
  struct tar_entry *e = &r->entry;
  if (!(x->has & (HAS_PATH | HAS_SPARSE_NAME)))
    header_name (e, h);
  if (!(x->has & HAS_LINK))
    copy_field (e->link, h->link, sizeof h->link);
  if (strlen (e->path) > r->limits.path || strlen (e->link) > r->limits.path)
    return limit (r, -ENAMETOOLONG);
  e->type = header_type (r, h);
  if (e->type < 0)
    return e->type;
  int rc = header_numbers (r, h, x);
  if (rc < 0)
    return rc;
  uint64_t size = x->size;
  if (!(x->has & HAS_SIZE) && parse_unsigned (h->size, sizeof h->size, SIZE_LIMIT, &size) < 0)
    return corrupt (r, -EINVAL);
  /* Other kinds have no data, whatever their size says. */
  if (e->type != TAR_FILE && e->type != 0)
    size = 0;
  if (h->type == 'S')
    rc = parse_old_sparse (r, x, (const char *)h);
  if (rc < 0)
    return rc;
  expect_data (r, size);
  e->size = size;
  e->sparse = 0;
  if (e->type == TAR_FILE && (x->has & HAS_SPARSE))
    rc = finish_sparse (r, x);
  if (e->type == 0)
    {
      memset (x, 0, sizeof *x);
      e->xattrs = 0;
    }
  return rc < 0 ? rc : e->type != 0;
}

/* One header block. Returns 1 for an entry, 0 for a header that is to be followed by others, -errno. */
static int
parse_header (struct tar_reader *r, const char *block, struct extended *x)
{
  const struct tar_header *h = (const struct tar_header *)block;
  uint64_t size;
  if (!checksum_matches (h))
    return corrupt (r, -EINVAL);
  if (memchr ("xXgLK", h->type, 5) == NULL)
    return parse_entry (r, h, x);
  if (parse_unsigned (h->size, sizeof h->size, SIZE_LIMIT, &size) < 0)
    return corrupt (r, -EINVAL);
  int rc;
  switch (h->type)
    {
    case 'L':
      x->has |= HAS_PATH;
      return parse_long_name (r, size, r->entry.path);
    case 'K':
      x->has |= HAS_LINK;
      return parse_long_name (r, size, r->entry.link);
    case 'g':
      /* Comments as a rule (git archive); Docker, too, lets no global record change entries. */
      expect_data (r, size);
      return 0;
    default:
      if (x->has_pax)
        return corrupt (r, -EINVAL);
      rc = read_meta (r, size, r->meta, ARCHIVE_META_MAX);
      x->has_pax = 1;
      return rc < 0 ? rc : parse_pax (r, x, r->meta, r->meta + size);
    }
}

/* The archive's end: a second block of zeros, or that of the stream. */
static int
parse_end (struct tar_reader *r, const struct extended *x)
{
  const char *block;
  int rc = take_block (r, &block);
  if (rc < 0)
    return rc;
  if (x->has != 0 || x->has_pax || (rc == 1 && !is_zero (block)))
    return corrupt (r, -EINVAL);
  return rc == 1 ? 0 : 2;
}

int
tar_next (struct tar_reader *r)
{
  struct extended x;
  memset (&x, 0, sizeof x);
  r->entry.xattrs = 0;
  for (int i = 0; i < MAX_HEADERS;)
    {
      int rc = skip_rest (r);
      if (rc < 0)
        return rc;
      const char *block;
      rc = take_block (r, &block);
      if (rc == 0)
        return x.has != 0 || x.has_pax ? corrupt (r, -ENODATA) : 2;
      if (rc < 0)
        return rc;
      if (is_zero (block))
        return parse_end (r, &x);
      i += block[offsetof (struct tar_header, type)] != 'g';
      rc = parse_header (r, block, &x);
      if (rc != 0)
        return rc;
    }
  return corrupt (r, -EINVAL);
}
