/* Memory and text: the helper program has no libc, and the compiler itself calls the first four of these. */
#pragma once

#include <stddef.h>
#include <stdint.h>

void *memcpy (void *restrict to, const void *restrict from, size_t n);
void *memmove (void *to, const void *from, size_t n);
void *memset (void *to, int byte, size_t n);
int memcmp (const void *a, const void *b, size_t n);
void *memchr (const void *where, int byte, size_t n);
size_t strlen (const char *text);
int strcmp (const char *a, const char *b);

/* Length of text, at most max: text needs no zero byte within max. */
size_t text_length (const char *text, size_t max);

/* True if text (with its zero byte) starts with prefix. */
int text_starts (const char *text, const char *prefix);

/* Copies from (with its zero byte) into to[size], cut to fit; to always ends with a zero byte. Returns strlen (to). */
size_t text_copy (char *to, size_t size, const char *from);

/* Writes n in decimal at to, which needs 21 bytes; ends with a zero byte. Returns the number of digits. */
size_t text_number (char *to, uint64_t n);
