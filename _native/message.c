/* Requests and replies over SEQPACKET sockets, with descriptors. */
#include "core.h"

#include <sys/mman.h>

union control
{
  struct cmsghdr head;
  char space[CMSG_SPACE (sizeof (int) * PYC_FDS_MAX)];
};

static int
take_fd (struct message *m, uint32_t flag)
{
  int fd;
  if (!(m->head.flags & flag) || m->fd_count == 0)
    return -1;
  fd = m->fds[0];
  m->fd_count--;
  for (int i = 0; i < m->fd_count; i++)
    m->fds[i] = m->fds[i + 1];
  return fd;
}

/* A payload too large for a message comes in a memfd: mapped, never unmapped (the receiver is a process per request). */
static int
payload_map (struct message *m, int fd)
{
  long at;
  if (m->head.length == 0 || m->head.length > PYC_PLAN_MAX)
    return -EMSGSIZE;
  at = sys (mmap, 0, m->head.length + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at < 0 && at > -4096)
    return (int)at;
  for (usize done = 0; done < m->head.length;)
    {
      long n = sys (pread64, fd, (char *)at + done, m->head.length - done, done);
      if (n <= 0)
        return n ? (int)n : -EBADMSG;
      done += (usize)n;
    }
  m->payload = (const char *)at;
  m->payload_length = m->head.length;
  return 0;
}

int
message_receive (int sock, struct message *m, char *buffer, usize size)
{
  union control control;
  struct iovec parts[2] = { { &m->head, sizeof m->head }, { buffer, size - 1 } };
  struct msghdr h = { .msg_iov = parts, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control };
  long n;

  memset (m, 0, sizeof *m);
  m->owner = m->stdio[0] = m->stdio[1] = m->stdio[2] = -1;
  do
    n = sys (recvmsg, sock, &h, MSG_CMSG_CLOEXEC);
  while (n == -EINTR);
  if (n < 0)
    return (int)n;
  if (n == 0)
    return -ECONNRESET;
  for (struct cmsghdr *c = CMSG_FIRSTHDR (&h); c; c = CMSG_NXTHDR (&h, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
      {
        m->fd_count = (int)((c->cmsg_len - CMSG_LEN (0)) / sizeof (int));
        memcpy (m->fds, CMSG_DATA (c), sizeof (int) * (usize)m->fd_count);
      }
  if (n < (long)sizeof m->head || m->head.magic != PYC_REQUEST_MAGIC || (h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
    {
      message_close (m);
      return -EBADMSG;
    }
  m->payload = buffer;
  m->payload_length = (usize)n - sizeof m->head;
  buffer[m->payload_length] = 0;
  if (m->head.flags & PYC_REQ_PAYLOAD_IN_FD)
    {
      int fd = take_fd (m, PYC_REQ_PAYLOAD_IN_FD);
      int e = payload_map (m, fd);
      sys (close, fd);
      if (e)
        {
          message_close (m);
          return e;
        }
    }
  m->owner = take_fd (m, PYC_REQ_HAS_OWNER);
  m->stdio[0] = take_fd (m, PYC_REQ_HAS_STDIN);
  m->stdio[1] = take_fd (m, PYC_REQ_HAS_STDOUT);
  m->stdio[2] = take_fd (m, PYC_REQ_HAS_STDERR);
  return 0;
}

void
message_close (struct message *m)
{
  for (int i = 0; i < m->fd_count; i++)
    sys (close, m->fds[i]);
  for (int i = 0; i < 3; i++)
    if (m->stdio[i] >= 0)
      sys (close, m->stdio[i]);
  if (m->owner >= 0)
    sys (close, m->owner);
  m->fd_count = 0;
  m->owner = m->stdio[0] = m->stdio[1] = m->stdio[2] = -1;
}

static int
send_with (int sock, const void *data, usize length, const int *fds, usize count)
{
  union control control;
  struct iovec part = { (void *)data, length };
  struct msghdr h = { .msg_iov = &part, .msg_iovlen = 1 };
  long n;

  if (count)
    {
      memset (&control, 0, sizeof control);
      h.msg_control = &control;
      h.msg_controllen = CMSG_SPACE (sizeof (int) * count);
      struct cmsghdr *c = CMSG_FIRSTHDR (&h);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN (sizeof (int) * count);
      memcpy (CMSG_DATA (c), fds, sizeof (int) * count);
    }
  do
    n = sys (sendmsg, sock, &h, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n == -EINTR);
  return n < 0 ? (int)n : 0;
}

int
message_send (int sock, const void *data, usize length, int fd)
{
  return send_with (sock, data, length, &fd, fd >= 0);
}

int
exec_reply (int sock, const struct pyc_reply *r, int pidfd, int master)
{
  int fds[2] = { pidfd, master };
  return send_with (sock, r, sizeof *r, fds, master >= 0 ? 2 : 1);
}

int
reply_send (int sock, const struct pyc_reply *r, int fd)
{
  return message_send (sock, r, sizeof *r, fd);
}

int
reply_failure (int sock, const struct failure *f)
{
  struct pyc_reply r = { .kind = PYC_REPLY_FAILED, .error = f->error, .step = f->step, .op = f->op };
  text_copy (r.text, sizeof r.text, f->text);
  return reply_send (sock, &r, -1);
}
