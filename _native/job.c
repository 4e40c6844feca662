/* Jobs: work on the store's trees and on containers' files, in a process of its own, where the store's owner is root. */
#include "archive.h"
#include "process.h"

#include <linux/prctl.h>
#include <sys/stat.h>

/* The texts of a request's payload. */
static const char *
text_of (const struct message *m, uint32_t offset)
{
  return offset < m->payload_length ? m->payload + offset : "";
}

static _Noreturn void
job_fail (int conn, uint32_t step, long error, const char *text)
{
  struct failure f = { 0 };
  fail (&f, step, error, text);
  reply_failure (conn, &f);
  leave (1);
}

static _Noreturn void
archive_fail (int conn, const struct archive_error *error)
{
  struct pyc_reply r
      = { .kind = PYC_REPLY_FAILED, .error = error->error, .step = PYC_STEP_ARCHIVE, .op = (uint32_t)error->step };
  text_copy (r.text, sizeof r.text, error->path);
  reply_send (conn, &r, -1);
  leave (1);
}

/* An ended container's root: its overlay alone, under the lock that a start would take. */
static int
root_of_ended (int conn, const char *path)
{
  static struct plan plan;
  static struct start start;
  static char buffer[PYC_PLAN_MAX / 8] __attribute__ ((aligned (8)));
  static struct pyc_plan head;
  long dir = sys (openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
  long lock = dir < 0 ? dir : sys (openat, dir, "state", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  struct timespec pause = { 0, 1000000 };
  long e = lock < 0 ? lock : file_lock ((int)lock);
  const struct pyc_op *op;

  /* Another job has it for a moment; a supervisor that has begun meanwhile keeps it, and is asked for its root instead. */
  for (int tries = 0; (e == -EAGAIN || e == -EACCES) && tries < 2000; tries++)
    {
      sys (nanosleep, &pause, 0);
      e = file_lock ((int)lock);
    }

  if (e == 0)
    e = plan_load (&plan, (int)dir, "plan", buffer, sizeof buffer);
  if (e)
    job_fail (conn, e == -EAGAIN || e == -EACCES ? PYC_STEP_LOCK : PYC_STEP_FILES, e, path);
  (void)head;
  start_init (&start, &plan);
  op = ops_begin (&plan);
  for (uint32_t i = 0; i < plan.head->op_count && op->code != PYC_OP_CHILD; i++, op++)
    if (op->code == PYC_OP_OVERLAY && op->slot < 0 && start_overlay (&start, op))
      {
        reply_failure (conn, &start.failure);
        leave (1);
      }
  if (start.overlay < 0)
    job_fail (conn, PYC_STEP_OVERLAY, -ENOENT, path);
  return start.overlay;
}

/* The root that paths are resolved in: a descriptor of the client's, an ended container's, or a tree of the store. */
static int
job_root (int conn, const struct message *m, int64_t mode, int given)
{
  long fd;
  if (mode == PYC_ROOT_GIVEN)
    return given;
  if (mode == PYC_ROOT_ENDED)
    return root_of_ended (conn, text_of (m, m->head.text2));
  fd = sys (openat, AT_FDCWD, text_of (m, m->head.text2), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
  if (fd < 0)
    job_fail (conn, PYC_STEP_FILES, fd, text_of (m, m->head.text2));
  return (int)fd;
}

static void
unpack (int conn, const struct message *m)
{
  struct unpack_options options;
  struct unpack_result result;
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  int root = job_root (conn, m, m->head.b, m->fd_count > 1 ? m->fds[1] : -1);
  const char *options_at = text_of (m, m->head.text);
  const char *path = list_next (options_at);

  memset (&options, 0, sizeof options);
  options.flags = (uint32_t)m->head.a;
  options.max_entries = text_parse (&options_at);
  options_at += *options_at == ' ';
  options.max_bytes = text_parse (&options_at);
  options_at += *options_at == ' ';
  options.max_size = text_parse (&options_at);
  options.max_path = ARCHIVE_PATH_MAX;
  options.max_xattr = 1048576;
  if (*path)
    {
      /* Links inside the directory still resolve in the whole root. */
      long fd = root_open (root, path, O_PATH | O_DIRECTORY, 0);
      if (fd < 0)
        job_fail (conn, PYC_STEP_FILE, fd, path);
      sys (close, fd);
      options.base = path;
    }
  if (archive_unpack (m->fds[0], root, &options, &result))
    archive_fail (conn, &result.error);
  r.a = (int64_t)result.entries;
  r.b = (int64_t)result.bytes;
  reply_send (conn, &r, -1);
}

static void
pack (int conn, const struct message *m)
{
  struct archive_error error = { 0 };
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  const char *path = text_of (m, m->head.text);
  struct pack_options options = { .flags = (uint32_t)m->head.a, .name = list_next (path) };
  int root = job_root (conn, m, m->head.b, m->fd_count > 1 ? m->fds[1] : -1);
  if (archive_pack (root, path, m->fds[0], &options, &error))
    archive_fail (conn, &error);
  reply_send (conn, &r, -1);
}

static void
remove_tree (int conn, const struct message *m)
{
  struct archive_error error = { 0 };
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  const char *path = text_of (m, m->head.text);
  const char *name = path;
  char parent[SELF_PATH_MAX];
  long dir = AT_FDCWD;

  for (const char *at = path; *at; at++)
    if (*at == '/')
      name = at + 1;
  if (name != path)
    {
      text_copy (parent, sizeof parent, path);
      parent[name - path] = 0;
      dir = sys (openat, AT_FDCWD, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
    }
  if (dir < 0 && dir != AT_FDCWD)
    job_fail (conn, PYC_STEP_FILES, dir, path);
  if (tree_remove ((int)dir, name, &error))
    archive_fail (conn, &error);
  reply_send (conn, &r, -1);
}

static void
diff (int conn, const struct message *m)
{
  static int lowers[ARCHIVE_LOWERS_MAX];
  struct archive_error error = { 0 };
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  usize count = 0;
  int upper = job_root (conn, m, PYC_ROOT_STORE, -1);

  for (const char *l = text_of (m, m->head.text); *l && count < ARCHIVE_LOWERS_MAX; l = list_next (l))
    {
      /* "@N" is the Nth descriptor that came along: a directory that is not of the store. */
      const char *digits = l + 1;
      int given = *l == '@' ? 1 + (int)text_parse (&digits) : 0;
      long fd = given ? given < m->fd_count ? m->fds[given] : -EBADF
                      : sys (openat, AT_FDCWD, l, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
      if (fd < 0)
        job_fail (conn, PYC_STEP_FILES, fd, l);
      lowers[count++] = (int)fd;
    }
  if (tree_diff (upper, lowers, count, m->fds[0], (uint32_t)m->head.a, &error))
    archive_fail (conn, &error);
  reply_send (conn, &r, -1);
}

static void
usage (int conn, const struct message *m)
{
  struct archive_error error = { 0 };
  struct tree_usage sum = { 0 };
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  if (tree_usage (job_root (conn, m, PYC_ROOT_STORE, -1), &sum, &error))
    archive_fail (conn, &error);
  r.a = (int64_t)sum.size;
  r.b = (int64_t)sum.inodes;
  reply_send (conn, &r, -1);
}

/* The directory that holds a path's last part, which `name` then points to. */
static long
parent_open (int root, const char *path, const char **name)
{
  static char parent[SELF_PATH_MAX];
  usize n = strlen (path);
  while (n > 1 && path[n - 1] == '/')
    n--;
  if (n >= sizeof parent)
    return -ENAMETOOLONG;
  *name = path;
  for (usize i = 0; i < n; i++)
    if (path[i] == '/')
      *name = path + i + 1;
  memcpy (parent, path, (usize)(*name - path));
  parent[*name - path] = 0;
  return root_open (root, *parent ? parent : "/", O_PATH | O_DIRECTORY, 0);
}

/* openat2 fails with EAGAIN when a rename anywhere passes by. */
static long
openat2_again (int root, const char *path, struct open_how *how)
{
  long fd;
  int tries = 0;
  do
    fd = sys (openat2, root, path, how, sizeof *how);
  while ((fd == -EAGAIN || fd == -EINTR) && ++tries < 1000);
  return fd;
}

/* Opens a file of the container's. Devices are refused: this process may open any of the machine's, and a node that the
   container made would reach them through it. Looked at before, so that none is opened, and after, since what lies there
   may be another file by then. */
static long
file_open (int root, const char *path, int flags, uint32_t mode)
{
  struct open_how how = { .flags = (uint64_t)(unsigned)flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                          .mode = flags & O_CREAT ? mode & 07777 : 0,
                          .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
  struct open_how look = { .flags = O_PATH | O_CLOEXEC | ((unsigned)flags & O_NOFOLLOW), .resolve = how.resolve };
  struct stat st;
  long fd, e;

  if (flags & O_PATH)
    {
      how.flags = (uint64_t)(unsigned)flags | O_CLOEXEC;
      return openat2_again (root, path, &how);
    }
  fd = openat2_again (root, path, &look);
  for (int i = 0; i < 2; i++)
    {
      if (fd >= 0)
        {
          e = sys (newfstatat, fd, "", &st, AT_EMPTY_PATH);
          if (e == 0 && (S_ISCHR (st.st_mode) || S_ISBLK (st.st_mode)))
            e = -ENODEV;
          if (e || i)
            {
              if (e)
                sys (close, fd);
              return e ? e : fd;
            }
          sys (close, fd);
        }
      else if (i || fd != -ENOENT)
        return fd;
      fd = openat2_again (root, path, &how);
    }
  return fd;
}

/* One call on a file. What is made lies in a directory that was opened inside the root. */
static void
file (int conn, const struct message *m)
{
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  const char *path = text_of (m, m->head.text);
  const char *target = list_next (path);
  const char *name = "";
  const char *other = "";
  uint32_t mode = (uint32_t)(m->head.b >> 32);
  int flags = (int)(uint32_t)m->head.b;
  int root = job_root (conn, m, m->head.c, m->fd_count ? m->fds[0] : -1);
  long dir = 0, second = 0, e = 0;

  if (m->head.a == PYC_FILE_OPEN)
    {
      e = file_open (root, path, flags, mode);
      if (e >= 0)
        {
          reply_send (conn, &r, (int)e);
          return;
        }
    }
  else
    {
      dir = parent_open (root, path, &name);
      e = dir < 0 ? dir : 0;
      if (e == 0 && m->head.a == PYC_FILE_RENAME)
        {
          second = parent_open (root, target, &other);
          e = second < 0 ? second : 0;
        }
    }
  if (e == 0)
    switch (m->head.a)
      {
      case PYC_FILE_MKDIR:
        e = sys (mkdirat, dir, name, mode & 07777);
        break;
      case PYC_FILE_UNLINK:
        e = sys (unlinkat, dir, name, 0);
        break;
      case PYC_FILE_RMDIR:
        e = sys (unlinkat, dir, name, AT_REMOVEDIR);
        break;
      case PYC_FILE_RENAME:
        e = sys (renameat2, dir, name, second, other, 0);
        break;
      case PYC_FILE_SYMLINK:
        e = sys (symlinkat, target, dir, name);
        break;
      case PYC_FILE_READLINK:
        e = sys (readlinkat, dir, name, r.text, sizeof r.text - 1);
        r.a = e;
        e = e < 0 ? e : 0;
        break;
      case PYC_FILE_CHMOD:
        second = file_open (root, path, O_RDONLY, 0);
        e = second < 0 ? second : sys (fchmod, second, mode & 07777);
        break;
      default:
        e = -ENOSYS;
      }
  if (e)
    job_fail (conn, PYC_STEP_FILE, e, path);
  reply_send (conn, &r, -1);
}

static void
synchronize (int conn)
{
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  long fd = sys (openat, AT_FDCWD, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  long e = fd < 0 ? fd : sys (syncfs, fd);
  if (e)
    job_fail (conn, PYC_STEP_FILES, e, ".");
  reply_send (conn, &r, -1);
}

/* Whoever asked and went away has no use for the rest. */
_Noreturn void
job_main (int conn, struct message *m)
{
  if ((m->head.kind == PYC_REQ_UNPACK || m->head.kind == PYC_REQ_PACK || m->head.kind == PYC_REQ_DIFF) && m->fd_count < 1)
    job_fail (conn, PYC_STEP_PLAN, -EBADF, "job");
  switch (m->head.kind)
    {
    case PYC_REQ_UNPACK:
      unpack (conn, m);
      break;
    case PYC_REQ_PACK:
      pack (conn, m);
      break;
    case PYC_REQ_REMOVE:
      remove_tree (conn, m);
      break;
    case PYC_REQ_DIFF:
      diff (conn, m);
      break;
    case PYC_REQ_USAGE:
      usage (conn, m);
      break;
    case PYC_REQ_FILE:
      file (conn, m);
      break;
    default:
      synchronize (conn);
    }
  leave (0);
}
