/* Reads a plan and takes everything in it that the helper program takes, under the sanitizers: a plan that plan_check lets
   through leads nowhere outside its bytes. */
#include "core.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned long total;

static void
text (const struct plan *p, uint32_t at)
{
  total += strlen (plan_text (p, at));
}

static void
list (const struct plan *p, uint32_t at)
{
  for (const char *item = plan_text (p, at); *item; item = list_next (item))
    total += strlen (item + 1);
}

static void
process (const struct plan *p, const struct pyc_process *q)
{
  list (p, q->argv);
  list (p, q->env);
  list (p, q->groups);
  text (p, q->user);
  text (p, q->workdir);
  text (p, q->path);
  for (uint32_t i = 0; i < q->filter_length; i++)
    total += (unsigned char)p->base[q->filter + i];
}

static int
take (const char *bytes, size_t size)
{
  char *copy = malloc (size);
  struct plan p;
  int e;
  __builtin_memcpy (copy, bytes, size);
  e = plan_check (&p, copy, size);
  if (e == 0)
    {
      const struct pyc_op *op = (const struct pyc_op *)(copy + p.head->ops);
      for (uint32_t i = 0; i < p.head->op_count; i++, op++)
        {
          list (&p, op->a);
          list (&p, op->b);
          list (&p, op->c);
        }
      process (&p, &p.head->process);
      process (&p, &p.head->health);
      text (&p, p.head->event);
      text (&p, p.head->cgroup);
    }
  free (copy);
  return e == 0;
}

int
main (int argc, char **argv)
{
  static char seed[1 << 20], mutant[1 << 20];
  FILE *file = fopen (argv[1], "rb");
  size_t size = file ? fread (seed, 1, sizeof seed, file) : 0;
  unsigned long passed = 0, rounds = argc > 2 ? strtoul (argv[2], 0, 10) : 0;

  if (!size || !take (seed, size))
    return 2;
  srandom (1);
  for (unsigned long i = 0; i < rounds; i++)
    {
      size_t n = size;
      __builtin_memcpy (mutant, seed, size);
      if (random () % 4 == 0)
        n = (size_t)random () % size + 1;
      for (int changes = 1 + (int)(random () % 4); changes; changes--)
        {
          /* Mostly the head and the ops, and mostly numbers near their bounds. */
          size_t at = (size_t)random () % (random () % 8 ? (n < 2048 ? n : 2048) : n);
          static const uint32_t EDGES[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8 };
          uint32_t value = random () % 2   ? EDGES[random () % 6]
                           : random () % 2 ? (uint32_t)n - (uint32_t)(random () % 16)
                                           : (uint32_t)random ();
          at &= ~(size_t)3;
          if (at + 4 <= n)
            __builtin_memcpy (mutant + at, &value, 4);
        }
      if (random () % 2 && n >= 8)
        {
          uint32_t told = (uint32_t)n;
          __builtin_memcpy (mutant + 4, &told, 4);
          mutant[n - 1] = mutant[n - 2] = 0;
        }
      passed += (unsigned long)take (mutant, n);
    }
  printf ("passed %lu of %lu\n", passed, rounds);
  return 0;
}
