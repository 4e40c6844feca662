/* The container's output on its way into the log: every byte framed with its time and stream, none dropped silently. */
#include "supervisor.h"

#include <sys/mman.h>

#define CHUNK 65536
#define RETRY_NS 100000000ull

static struct
{
  struct pyc_log_frame head;
  char data[CHUNK];
} frame __attribute__ ((aligned (4096)));
static bool frame_dirty;

/* Writes what is in `frame`. A full disk leaves the log as it was, without a piece of a frame. */
static bool
frame_write (uint32_t length)
{
  usize size = sizeof frame.head + length;
  long n = sys (write, sv.log_fd, &frame, size);
  if (n == (long)size)
    {
      sv.record.log_end += size;
      return true;
    }
  sys (ftruncate, sv.log_fd, sv.record.log_end);
  return false;
}

/* What could not be written stays in `frame`: the streams are read again when it could. */
static uint32_t frame_waiting;

static void
output_block (void)
{
  sv.output_blocked = true;
  sv.unblock_at = now_ns (1) + RETRY_NS;
  for (int i = 0; i < 2; i++)
    if (sv.output[i] >= 0)
      watch_fd (sv.output[i], SOURCE_OUTPUT, i, 0);
}

static void
output_unblock (void)
{
  sv.output_blocked = false;
  sv.unblock_at = 0;
  for (int i = 0; i < 2; i++)
    if (sv.output[i] >= 0)
      watch_fd (sv.output[i], SOURCE_OUTPUT, i, EPOLLIN);
}

static void
output_closed (int index)
{
  int fd = sv.output[index];
  struct epoll_event none;
  sv.output[index] = -1;
  sys (epoll_ctl, sv.epoll, EPOLL_CTL_DEL, fd, &none);
  if (fd != sv.start.master)
    sys (close, fd);
}

/* Reads once. Tells whether there may be more. */
static bool
output_once (int index)
{
  long n = sys (read, sv.output[index], frame.data, CHUNK);
  if (n == -EAGAIN || n == -EINTR)
    return false;
  if (n <= 0)
    {
      /* A terminal whose other end nobody holds gives EIO, and may be opened again: /dev/console. */
      if (n != -EIO || sv.start.pidfd < 0)
        output_closed (index);
      else
        watch_fd (sv.output[index], SOURCE_OUTPUT, index, EPOLLIN | EPOLLET);
      return false;
    }
  if (n > 4096)
    frame_dirty = true;
  frame.head.time = now_ns (0);
  frame.head.length = (uint32_t)n;
  frame.head.stream = (uint32_t)index + 1;
  if (!frame_write ((uint32_t)n))
    {
      frame_waiting = (uint32_t)n;
      output_block ();
      return false;
    }
  return true;
}

void
output_read (int index)
{
  if (index < 0)
    {
      if (frame_waiting && !frame_write (frame_waiting))
        {
          sv.unblock_at = now_ns (1) + RETRY_NS;
          return;
        }
      frame_waiting = 0;
      output_unblock ();
      watchers_wake ();
      return;
    }
  if (sv.output_blocked || sv.output[index] < 0)
    return;
  output_once (index);
  watchers_wake ();
}

/* All that the pipes hold when the container has ended; on a full disk what can't be kept is counted in the record. */
void
output_drain (void)
{
  if (frame_waiting && !frame_write (frame_waiting))
    sv.record.log_lost += frame_waiting;
  frame_waiting = 0;
  sv.output_blocked = false;
  sv.unblock_at = 0;
  for (int i = 0; i < 2; i++)
    while (sv.output[i] >= 0 && output_once (i))
      ;
  for (int i = 0; i < 2 && sv.output_blocked; i++)
    while (sv.output[i] >= 0)
      {
        long n = frame_waiting ? (long)frame_waiting : sys (read, sv.output[i], frame.data, CHUNK);
        frame_waiting = 0;
        if (n <= 0)
          break;
        sv.record.log_lost += (uint64_t)n;
      }
  sv.output_blocked = false;
}

/* A supervisor that is quiet gives its buffer back to the machine. */
void
output_idle (void)
{
  if (sv.scratch_used)
    {
      scratch_shed ();
      /* The plan is a file's mapping: its pages come back when they are read. */
      sys (madvise, sv.plan.base, sv.plan.size, MADV_DONTNEED);
    }
  sv.scratch_used = false;
  if (!frame_dirty || frame_waiting)
    return;
  frame_dirty = false;
  sys (madvise, (char *)&frame + 4096, (sizeof frame & ~4095ul) - 4096, MADV_DONTNEED);
}
