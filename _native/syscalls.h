/* Raw system calls: the helper program has no libc, and a child that shares its parent's memory must not touch errno.
   Every call returns -errno on failure, as the kernel does. */
#pragma once

#include <asm/unistd.h>
#include <linux/types.h>
#include <stddef.h>
#include <stdint.h>

typedef long ssize;
typedef unsigned long usize;

#if defined(__x86_64__)
static inline long
sys6 (long n, long a, long b, long c, long d, long e, long f)
{
  long r;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return r;
}
#elif defined(__aarch64__)
static inline long
sys6 (long n, long a, long b, long c, long d, long e, long f)
{
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
  return x0;
}
#else
#  error "the native backend knows x86_64 and aarch64"
#endif

#define SYS_PICK(_1, _2, _3, _4, _5, _6, _7, NAME, ...) NAME
#define SYS_L(x) ((long)(x))
#define SYS1(n) sys6 (n, 0, 0, 0, 0, 0, 0)
#define SYS2(n, a) sys6 (n, SYS_L (a), 0, 0, 0, 0, 0)
#define SYS3(n, a, b) sys6 (n, SYS_L (a), SYS_L (b), 0, 0, 0, 0)
#define SYS4(n, a, b, c) sys6 (n, SYS_L (a), SYS_L (b), SYS_L (c), 0, 0, 0)
#define SYS5(n, a, b, c, d) sys6 (n, SYS_L (a), SYS_L (b), SYS_L (c), SYS_L (d), 0, 0)
#define SYS6(n, a, b, c, d, e) sys6 (n, SYS_L (a), SYS_L (b), SYS_L (c), SYS_L (d), SYS_L (e), 0)
#define SYS7(n, a, b, c, d, e, f) sys6 (n, SYS_L (a), SYS_L (b), SYS_L (c), SYS_L (d), SYS_L (e), SYS_L (f))
/* sys (close, fd): the kernel's name of the call, then its arguments. */
#define sys(name, ...) SYS_CAT (SYS_COUNT (name, ##__VA_ARGS__)) (__NR_##name, ##__VA_ARGS__)
#define SYS_CAT(n) SYS_CAT_ (n)
#define SYS_CAT_(n) SYS##n
#define SYS_COUNT(...) SYS_PICK (__VA_ARGS__, 7, 6, 5, 4, 3, 2, 1, 0)
