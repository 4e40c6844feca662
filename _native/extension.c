/* The extension: what Python calls in its own process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "plan.h"
#include "native.h"

#define REPLY_FDS 4

union control
{
  struct cmsghdr head;
  char space[CMSG_SPACE (sizeof (int) * PYC_FDS_MAX)];
};

int
pyc_abi (void)
{
  return 1;
}

long
pyc_send (int sock, const void *request, size_t length, const int *fds, int fd_count)
{
  union control control;
  struct iovec part = { (void *)request, length };
  struct msghdr h = { .msg_iov = &part, .msg_iovlen = 1 };
  ssize_t n;

  if (fd_count < 0 || fd_count > PYC_FDS_MAX)
    return -E2BIG;
  if (fd_count)
    {
      size_t size = sizeof (int) * (size_t)fd_count;
      memset (&control, 0, sizeof control);
      h.msg_control = &control;
      h.msg_controllen = CMSG_SPACE (size);
      struct cmsghdr *c = CMSG_FIRSTHDR (&h);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN (size);
      memcpy (CMSG_DATA (c), fds, size);
    }
  do
    n = sendmsg (sock, &h, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : 0;
}

long
pyc_receive (int sock, void *reply, size_t capacity, int *reply_fds, int *reply_fd_count, int timeout_ms)
{
  union control control;
  struct pollfd wait = { sock, POLLIN, 0 };
  struct iovec part = { reply, capacity };
  struct msghdr h = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
  int ready = poll (&wait, 1, timeout_ms);
  ssize_t n;

  *reply_fd_count = 0;
  if (ready <= 0)
    return ready ? -errno : -ETIMEDOUT;
  n = recvmsg (sock, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0)
    return -errno;
  for (struct cmsghdr *c = CMSG_FIRSTHDR (&h); c; c = CMSG_NXTHDR (&h, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
      {
        int count = (int)((c->cmsg_len - CMSG_LEN (0)) / sizeof (int));
        for (int i = 0; i < count; i++)
          {
            int fd;
            memcpy (&fd, CMSG_DATA (c) + sizeof (int) * (size_t)i, sizeof fd);
            if (*reply_fd_count < REPLY_FDS)
              reply_fds[(*reply_fd_count)++] = fd;
            else
              close (fd);
          }
      }
  return n;
}

/* A socket's address holds 108 bytes; a descriptor's name in /proc reaches any directory. */
static long
connect_below (int root_fd, const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  char digits[16];
  size_t n = 0, used = sizeof "/proc/self/fd/" - 1;
  unsigned value = (unsigned)root_fd;
  int sock;

  do
    digits[n++] = (char)('0' + value % 10);
  while (value /= 10);
  if (used + n + 1 + strlen (path) + 1 > sizeof address.sun_path)
    return -ENAMETOOLONG;
  memcpy (address.sun_path, "/proc/self/fd/", used);
  while (n)
    address.sun_path[used++] = digits[--n];
  address.sun_path[used++] = '/';
  memcpy (address.sun_path + used, path, strlen (path) + 1);
  sock = socket (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (sock < 0)
    return -errno;
  while (connect (sock, (struct sockaddr *)&address, sizeof address))
    if (errno != EINTR)
      {
        int e = errno;
        close (sock);
        return -e;
      }
  return sock;
}

long
pyc_call (int root_fd, const char *path, const void *request, size_t length, const int *fds, int fd_count, void *reply,
          size_t capacity, int *reply_fds, int *reply_fd_count, int timeout_ms, int *sock)
{
  long conn = connect_below (root_fd, path);
  long n;

  *sock = -1;
  *reply_fd_count = 0;
  if (conn < 0)
    return conn;
  n = pyc_send ((int)conn, request, length, fds, fd_count);
  if (n == 0)
    n = pyc_receive ((int)conn, reply, capacity, reply_fds, reply_fd_count, timeout_ms);
  if (n < 0 && n != -EINTR && n != -ETIMEDOUT)
    close ((int)conn);
  else
    *sock = (int)conn;
  return n;
}

long
pyc_open_tree (int dir_fd, const char *path, int recursive)
{
  unsigned flags = 1 /* OPEN_TREE_CLONE */ | O_CLOEXEC | (recursive ? 0x8000u /* AT_RECURSIVE */ : 0);
  long fd = syscall (SYS_open_tree, dir_fd, path, flags | (*path ? 0 : AT_EMPTY_PATH));
  return fd < 0 ? -errno : fd;
}

long
pyc_open_in_root (int root_fd, const char *path, int flags, int mode)
{
  struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
  long fd;
  how.mode = flags & (O_CREAT | O_TMPFILE) ? (uint64_t)mode : 0;
  fd = syscall (SYS_openat2, root_fd, path, &how, sizeof how);
  return fd < 0 ? -errno : fd;
}

long
pyc_watch_file (const char *path)
{
  int fd = inotify_init1 (IN_CLOEXEC | IN_NONBLOCK);
  if (fd < 0)
    return -errno;
  if (inotify_add_watch (fd, path, IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF) < 0)
    {
      int e = errno;
      close (fd);
      return -e;
    }
  return fd;
}
