/* Reading plans: what is not inside its bounds is refused before anything is done. */
#include "core.h"

static bool
inside (const struct plan *p, uint32_t offset, usize length)
{
  return offset < p->size && length <= p->size - offset;
}

/* A list's texts all end, and so does the list, before the plan's last byte: that one is 0, and 0 before it. */
int
plan_check (struct plan *p, const char *base, usize size)
{
  const struct pyc_plan *h = (const struct pyc_plan *)base;
  const struct pyc_op *ops;

  p->base = base;
  p->size = size;
  p->head = h;
  if (size < sizeof *h + 2 || h->magic != PYC_PLAN_MAGIC || h->size != size || base[size - 1] || base[size - 2])
    return -EBADMSG;
  if (h->op_count > 4096 || !inside (p, h->ops, sizeof *ops * h->op_count) || h->ops % 8)
    return -EBADMSG;
  ops = (const struct pyc_op *)(base + h->ops);
  for (uint32_t i = 0; i < h->op_count; i++)
    if (!inside (p, ops[i].a, 1) || !inside (p, ops[i].b, 1) || !inside (p, ops[i].c, 1) || ops[i].slot < -1
        || ops[i].slot >= PYC_FDS_MAX)
      return -EBADMSG;
  for (int i = 0; i < 2; i++)
    {
      const struct pyc_process *q = i ? &h->health : &h->process;
      if (!inside (p, q->argv, 1) || !inside (p, q->env, 1) || !inside (p, q->user, 1) || !inside (p, q->groups, 1)
          || !inside (p, q->workdir, 1) || !inside (p, q->path, 1) || !inside (p, q->home, 1)
          || !inside (p, q->filter, q->filter_length) || q->filter_length > 4096 * 8 /* BPF_MAXINSNS */ || q->filter_length % 8
          || q->filter % 8)
        return -EBADMSG;
    }
  if (!inside (p, h->event, 1) || !inside (p, h->cgroup, 1) || !inside (p, h->unified, 1))
    return -EBADMSG;
  return 0;
}

int
plan_load (struct plan *p, int dir, const char *name, char *buffer, usize size)
{
  long fd = sys (openat, dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
  usize done = 0;
  long n;

  if (fd < 0)
    return (int)fd;
  do
    {
      n = sys (read, fd, buffer + done, size - done);
      done += n > 0 ? (usize)n : 0;
    }
  while ((n > 0 && done < size) || n == -EINTR);
  sys (close, fd);
  if (n < 0)
    return (int)n;
  return done == size ? -EFBIG : plan_check (p, buffer, done);
}

const char *
plan_text (const struct plan *p, uint32_t offset)
{
  return offset ? p->base + offset : "";
}

const char *
list_next (const char *item)
{
  return item + strlen (item) + 1;
}
