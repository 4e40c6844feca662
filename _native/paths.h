/* Paths resolved inside a root directory, and the few file calls that pack, unpack and the tree functions share. */
#pragma once

#include <linux/fcntl.h>
#include <linux/stat.h>
#include <linux/time_types.h>
#include <stddef.h>
#include <stdint.h>

#include "archive.h"

#ifndef O_PATH
#  error "asm/fcntl.h without O_PATH"
#endif

enum path_how
{
  PATH_DIRECTORY = 1, /* fail with ENOTDIR if it is something else */
  PATH_NO_FOLLOW = 2, /* a symlink at the end is itself what is opened (with PATH_DIRECTORY: fails) */
  PATH_MAKE_DIRS = 4, /* make missing directories, mode 0755; implies PATH_DIRECTORY and following */
  PATH_NO_LINKS = 8   /* fail with ELOOP at any symlink on the way */
};

/* Opens `path` below root, which no `..`, absolute path or symlink leaves, with O_PATH. Needs no openat2, but is slower
   without. Returns a descriptor for the caller to close, or -errno. */
int path_open (int root, const char *path, unsigned how);

/* Opens what an O_PATH descriptor stands for: the very same file, whatever happened to its name. Returns a descriptor
   or -errno. Without /proc it fails with ENOENT. */
int path_reopen (int fd, int flags);

/* statx of name below dir, not followed; of dir itself if name is empty. Returns 0 or -errno. */
int path_stat (int dir, const char *name, struct statx *st);

/* True if both are the same file of the same mount, as far as the kernel tells mounts apart. */
int path_same_mount (const struct statx *a, const struct statx *b);
int path_same_file (const struct statx *a, const struct statx *b);

/* True if something is mounted there, in any namespace; false also before Linux 5.8. */
int path_is_mount (const struct statx *st);

/* Closes *fd unless negative, for `CLOSED int fd = ...`. */
void path_close (int *fd);
#define CLOSED __attribute__ ((cleanup (path_close)))

/* Takes the descriptor out of a CLOSED variable. */
static inline int
path_steal (int *fd)
{
  int taken = *fd;
  *fd = -1;
  return taken;
}

/* read and write, restarted after signals; path_write writes all. Return the count or -errno. */
long path_read (int fd, void *to, size_t size);
long path_write (int fd, const void *from, size_t size);

/* What getdents64 gives. */
struct path_dirent
{
  uint64_t inode;
  int64_t next;
  uint16_t size;
  uint8_t type;
  char name[];
};

/* True for `.` and `..`. */
int path_is_dots (const char *name);

/* True if st is an overlayfs whiteout: the character device 0:0. */
int path_is_whiteout (const struct statx *st);

/* Reads overlayfs's attribute `what` ("opaque", "whiteout") of an open file. Returns its first byte; 0 if it has none. */
int path_overlay_mark (int fd, const char *what, int userxattr);

/* Sets overlayfs's attribute `what` of an open file to the one byte `value`. Returns 0 or -errno. */
int path_set_overlay_mark (int fd, const char *what, char value, int userxattr);

/* True if name is an extended attribute that archives carry: user.* but overlayfs's, security.capability, POSIX ACLs.
   Others would speak to the host: its labels, its integrity checks, its overlayfs. */
int path_xattr_is_portable (const char *name);

/* Fills *error and returns rc, which is -errno. */
int archive_fail (struct archive_error *error, int step, int rc, const char *path);
