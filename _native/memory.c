/* Memory and text: see memory.h. The empty asm in the loops keeps the compiler from turning them into calls of themselves. */
#include "memory.h"

#define PLAIN_LOOP __asm__ volatile("" ::: "memory")

#if defined(__x86_64__)
void *
memcpy (void *restrict to, const void *restrict from, size_t n)
{
  void *p = to;
  __asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n) : : "memory");
  return to;
}

void *
memset (void *to, int byte, size_t n)
{
  void *p = to;
  __asm__ volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(byte) : "memory");
  return to;
}
#else
typedef uint64_t __attribute__ ((may_alias, aligned (1))) word;

void *
memcpy (void *restrict to, const void *restrict from, size_t n)
{
  unsigned char *t = to;
  const unsigned char *f = from;
  for (; n >= 16; n -= 16, t += 16, f += 16)
    {
      word a = ((const word *)f)[0];
      word b = ((const word *)f)[1];
      ((word *)t)[0] = a;
      ((word *)t)[1] = b;
      PLAIN_LOOP;
    }
  for (; n > 0; n--)
    {
      *t++ = *f++;
      PLAIN_LOOP;
    }
  return to;
}

void *
memset (void *to, int byte, size_t n)
{
  unsigned char *t = to;
  word all = 0x0101010101010101ull * (unsigned char)byte;
  for (; n >= 8; n -= 8, t += 8)
    {
      *(word *)t = all;
      PLAIN_LOOP;
    }
  for (; n > 0; n--)
    {
      *t++ = (unsigned char)byte;
      PLAIN_LOOP;
    }
  return to;
}
#endif

void *
memmove (void *to, const void *from, size_t n)
{
  unsigned char *t = to;
  const unsigned char *f = from;
  if (t <= f || t >= f + n)
    {
      for (size_t i = 0; i < n; i++)
        {
          t[i] = f[i];
          PLAIN_LOOP;
        }
      return to;
    }
  while (n-- > 0)
    {
      t[n] = f[n];
      PLAIN_LOOP;
    }
  return to;
}

int
memcmp (const void *a, const void *b, size_t n)
{
  const unsigned char *x = a;
  const unsigned char *y = b;
  for (size_t i = 0; i < n; i++)
    if (x[i] != y[i])
      return x[i] < y[i] ? -1 : 1;
  return 0;
}

void *
memchr (const void *where, int byte, size_t n)
{
  const unsigned char *p = where;
  for (size_t i = 0; i < n; i++)
    if (p[i] == (unsigned char)byte)
      return (void *)(uintptr_t)(p + i);
  return NULL;
}

size_t
strlen (const char *text)
{
  size_t n = 0;
  while (text[n] != '\0')
    {
      n++;
      PLAIN_LOOP;
    }
  return n;
}

int
strcmp (const char *a, const char *b)
{
  while (*a != '\0' && *a == *b)
    {
      a++;
      b++;
    }
  return (int)(unsigned char)*a - (int)(unsigned char)*b;
}

size_t
text_length (const char *text, size_t max)
{
  size_t n = 0;
  while (n < max && text[n] != '\0')
    n++;
  return n;
}

int
text_starts (const char *text, const char *prefix)
{
  while (*prefix != '\0')
    if (*text++ != *prefix++)
      return 0;
  return 1;
}

size_t
text_copy (char *to, size_t size, const char *from)
{
  size_t n = text_length (from, size - 1);
  memcpy (to, from, n);
  to[n] = '\0';
  return n;
}

size_t
text_number (char *to, uint64_t n)
{
  char digits[21];
  size_t count = 0;
  do
    {
      digits[count++] = (char)('0' + n % 10);
      n /= 10;
    }
  while (n > 0);
  for (size_t i = 0; i < count; i++)
    to[i] = digits[count - 1 - i];
  to[count] = '\0';
  return count;
}
