/* The tar format, both ways: headers, and the reader that turns a stream into entries. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "archive.h"

enum
{
  TAR_BLOCK = 512,
  TAR_BUFFER = 262144
};

/* POSIX ustar; other formats differ from `prefix` on. */
struct tar_header
{
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[6];
  char version[2];
  char uname[32];
  char gname[32];
  char major[8];
  char minor[8];
  char prefix[155];
  char padding[12];
};

enum tar_type
{
  TAR_FILE = '0',
  TAR_HARD_LINK = '1',
  TAR_SYMLINK = '2',
  TAR_CHAR = '3',
  TAR_BLOCK_DEVICE = '4',
  TAR_DIRECTORY = '5',
  TAR_FIFO = '6'
};

/* Name and value lie in the reader's buffer until the next entry; the name ends with a zero byte. */
struct tar_xattr
{
  const char *name;
  const char *value;
  size_t size;
};

struct tar_extent
{
  uint64_t offset;
  uint64_t size;
};

/* An entry, whatever format it came in. */
struct tar_entry
{
  int type; /* enum tar_type */
  uint32_t mode;
  uint32_t uid;
  uint32_t gid;
  uint32_t major;
  uint32_t minor;
  int64_t mtime;
  uint32_t mtime_ns;
  uint64_t size; /* of the file, holes included */
  int sparse;    /* true: the data are those of the extents, in order */
  size_t extents;
  size_t xattrs;
  struct tar_xattr xattr[ARCHIVE_XATTRS_MAX];
  char path[ARCHIVE_PATH_MAX + 1]; /* as in the archive */
  char link[ARCHIVE_PATH_MAX + 1];
};

struct tar_limits
{
  uint32_t path;
  uint64_t xattr;
};

/* A stream being read, and what its headers said of the entry to come. */
struct tar_reader
{
  int fd;
  int at_end;
  uint64_t data_left; /* of the current entry */
  uint64_t skip_left; /* what pads its data */
  size_t start;       /* of what is in the buffer */
  size_t end;
  struct tar_limits limits;
  struct archive_error *error;
  struct tar_entry entry;
  struct tar_extent extent[ARCHIVE_EXTENTS_MAX];
  char meta[ARCHIVE_META_MAX + 1];
  char long_name[ARCHIVE_PATH_MAX + 2];
  char buffer[TAR_BUFFER];
};

/* Starts reading fd. Limits of 0 are none; errors are filled into *error. */
void tar_begin (struct tar_reader *r, int fd, const struct tar_limits *limits, struct archive_error *error);

/* Reads up to the next entry, past what is left of the one before, into r->entry. Returns 1; 0 at the archive's end, 2 if
   it ended without its blocks of zeros; -errno with the error filled. */
int tar_next (struct tar_reader *r);

/* Gives the next piece of the entry's data at *data. Returns its size, 0 at the data's end, -errno with the error
   filled. */
long tar_data (struct tar_reader *r, const char **data);

/* Reads the stream to its end. Returns 0 or -errno. */
int tar_drain (struct tar_reader *r);

/* Sum of the header's bytes with its checksum field taken as spaces. */
unsigned tar_checksum (const struct tar_header *h);
