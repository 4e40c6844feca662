/* Archives and trees: what the helper program does to the files of a root directory.

   All of it holds for hostile archives and, except where noted, for roots that a running container changes meanwhile:
   every path is resolved below the given root, no symbolic link leads out, and no device is opened. The caller is a
   process of its own with one thread: the functions use static memory, set the umask to 0 and need SIGPIPE ignored.
   Nothing is allocated; every bound is stated. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum archive_limits
{
  ARCHIVE_PATH_MAX = 4095,     /* longest path in bytes, as the kernel has it */
  ARCHIVE_META_MAX = 1048576,  /* largest PAX header of one entry */
  ARCHIVE_XATTRS_MAX = 256,    /* extended attributes of one entry */
  ARCHIVE_EXTENTS_MAX = 65536, /* pieces of data of one sparse file */
  ARCHIVE_LINKS_MAX = 65536,   /* files with several names that pack and usage remember */
  ARCHIVE_LOWERS_MAX = 500     /* lower layers of a diff */
};

/* Where it failed. */
enum archive_step
{
  ARCHIVE_STEP_NONE,
  ARCHIVE_STEP_READ,    /* reading the archive, or a file to be packed */
  ARCHIVE_STEP_CORRUPT, /* the archive is truncated, malformed or of an unknown kind */
  ARCHIVE_STEP_LIMIT,   /* one of the limits is exceeded */
  ARCHIVE_STEP_ESCAPE,  /* a name leads out of the root by `..` */
  ARCHIVE_STEP_RESOLVE, /* a directory on the way */
  ARCHIVE_STEP_CREATE,
  ARCHIVE_STEP_WRITE,
  ARCHIVE_STEP_OWNER,
  ARCHIVE_STEP_MODE,
  ARCHIVE_STEP_TIME,
  ARCHIVE_STEP_XATTR,
  ARCHIVE_STEP_LINK, /* a hard link */
  ARCHIVE_STEP_DEVICE,
  ARCHIVE_STEP_REMOVE,
  ARCHIVE_STEP_OPEN,
  ARCHIVE_STEP_LIST, /* reading a directory */
  ARCHIVE_STEP_OUTPUT
};

/* Filled by a function that fails: the errno (positive), the step, and the path below the root, cut to fit. */
struct archive_error
{
  int error;
  int step;
  char path[256];
};

/* The step as a word for a message: "chown", "hard link". Never NULL. */
const char *archive_step_name (int step);

enum unpack_flag
{
  UNPACK_NO_OWNER = 1,        /* single id: leave everything to the calling user */
  UNPACK_ONE_OWNER = 2,       /* everything belongs to options' uid and gid */
  UNPACK_WHITEOUTS = 4,       /* `.wh.` names are OCI whiteouts, to be overlayfs's; else they are names as others */
  UNPACK_USERXATTR = 8,       /* overlayfs's attributes are user.overlay. rather than trusted.overlay. */
  UNPACK_KEEP_DIR_LINKS = 16, /* an entry of a directory leaves a symlink to a directory at its place */
  UNPACK_SAME_KIND = 32,      /* fail with EISDIR or ENOTDIR rather than put a file for a directory or the reverse */
  UNPACK_EMPTY_DEVICES = 64,  /* an empty file for each device */
  UNPACK_SKIP_DEVICES = 128,  /* nothing for each device */
  UNPACK_ROOT_ENTRY = 256,    /* the archive's entry `./` sets the owner, mode and time of the directory unpacked to */
  UNPACK_NEED_END = 512       /* an archive that ends without its two blocks of zeros is truncated */
};

/* How to unpack. A limit of 0 is none. */
struct unpack_options
{
  uint32_t flags;
  uint32_t uid;
  uint32_t gid;
  uint32_t max_path;    /* bytes of a name or link target */
  uint64_t max_entries; /* entries */
  uint64_t max_bytes;   /* bytes written as file data, altogether; holes count nothing */
  uint64_t max_size;    /* size of one file, holes included */
  uint64_t max_xattr;   /* bytes of extended attributes of one entry */
  const char *base;     /* the directory below the root that names start in, which must exist; NULL for the root */
};

struct unpack_result
{
  uint64_t entries;
  uint64_t bytes;          /* written as file data */
  uint64_t skipped_xattrs; /* that the file system or the user may not have, or that mean something to the host */
  uint64_t skipped_devices;
  struct archive_error error;
};

/* Unpacks the uncompressed tar stream `tar_fd` below the directory `root_fd`: ustar, GNU and PAX with long names, large
   numbers, sparse files, hard links, devices, times to the nanosecond, and of extended attributes user.*,
   security.capability and POSIX ACLs. What exists is replaced, never written through; a file that is a mount point is
   written in place. `..` that leads out of the root, or of `base`, fails, a leading slash is dropped, symlinks on the way are followed inside the
   root, missing directories are made. After its end the stream is read until its own end.
   Not atomic: after a failure the root holds a part. Returns 0, or -errno with result->error filled. */
int archive_unpack (int tar_fd, int root_fd, const struct unpack_options *options, struct unpack_result *result);

enum pack_flag
{
  PACK_FOLLOW = 1,       /* follow `path` if it is a symlink */
  PACK_ONE_MOUNT = 2,    /* mount points are packed as empty files and directories */
  PACK_WHITEOUTS = 4,    /* overlayfs's whiteouts and opaque directories become OCI's */
  PACK_USERXATTR = 8,    /* overlayfs's attributes are user.overlay. rather than trusted.overlay. */
  PACK_SPARSE = 16,      /* files with holes as PAX sparse 1.0 */
  PACK_NANOSECONDS = 32, /* times to the nanosecond, at the cost of a PAX header for most entries */
  PACK_ONE_OWNER = 64    /* everything belongs to options' uid and gid */
};

/* How to pack. `name` is what the archive calls the packed file or directory; with NULL or "" a directory itself gets
   no entry and its children's names start there, and a file keeps its own name. */
struct pack_options
{
  uint32_t flags;
  uint32_t uid;
  uint32_t gid;
  const char *name;
};

/* Writes `path`, resolved inside root_fd, to out_fd as a tar archive: ustar, with PAX headers where that is not enough.
   Names are sorted by bytes in each directory, so that the same tree gives the same bytes. Sockets are left out, and so
   is what vanishes meanwhile; a file that shrinks is filled with zeros. Of files with several names all after the first
   are hard links, as far as ARCHIVE_LINKS_MAX reaches. Paths longer than ARCHIVE_PATH_MAX fail with ENAMETOOLONG.
   Returns 0, or -errno with *error filled; what was written before is of no use then. */
int archive_pack (int root_fd, const char *path, int out_fd, const struct pack_options *options, struct archive_error *error);

/* Removes `name`, one component, below dir_fd with all below it, at any depth. Follows no symlink and crosses no mount
   point (EBUSY). Idempotent: what is gone already is no failure. Returns 0, or -errno with *error filled; the rest of
   the tree is there then. */
int tree_remove (int dir_fd, const char *name, struct archive_error *error);

enum diff_flag
{
  DIFF_USERXATTR = 1 /* overlayfs's attributes are user.overlay. rather than trusted.overlay. */
};

/* Writes to out_fd what the overlayfs directory upper_fd changes in its lower layers, the topmost first: records of a
   kind (A added, C changed, D deleted), a zero byte, the path with its leading slash, a zero byte. A directory is C if
   its owner, mode or time or something below it changed; it comes before what is below. Of a deleted directory there is
   the one record. All roots must be at rest. Returns 0, or -errno with *error filled. */
int tree_diff (int upper_fd, const int *lower_fds, size_t lowers, int out_fd, uint32_t flags, struct archive_error *error);

/* Sizes of a tree: files with several names count once (as far as ARCHIVE_LINKS_MAX reaches). */
struct tree_usage
{
  uint64_t disk;   /* bytes of blocks in use */
  uint64_t size;   /* bytes of the files' contents, holes included */
  uint64_t inodes; /* the directory itself included */
};

/* Adds up the tree of dir_fd, without crossing mount points. Returns 0, or -errno with *error filled. */
int tree_usage (int dir_fd, struct tree_usage *usage, struct archive_error *error);
