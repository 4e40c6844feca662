/* Texts, numbers, time, and the end of a process. */
#include "core.h"

#include <time.h>

uint64_t
text_parse (const char **at)
{
  uint64_t value = 0;
  while (**at >= '0' && **at <= '9')
    value = value * 10 + (uint64_t)(*(*at)++ - '0');
  return value;
}

uint64_t
now_ns (int clock)
{
  struct timespec t;
  sys (clock_gettime, clock, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

long
file_lock (int fd)
{
  struct flock whole = { .l_type = F_WRLCK };
  return sys (fcntl, fd, F_OFD_SETLK, &whole);
}

int
fail (struct failure *f, uint32_t step, long error, const char *text)
{
  f->error = (int)-error;
  f->step = step;
  text_copy (f->text, sizeof f->text, text ? text : "");
  return -1;
}

_Noreturn void
leave (int code)
{
  for (;;)
    sys (exit_group, code);
}

#if defined(__x86_64__)
long
clone_call (struct clone_args *args, int (*fn) (void *), void *arg)
{
  register int (*f) (void *) __asm__("r12") = fn;
  register void *a __asm__("r13") = arg;
  long r;
  __asm__ volatile("syscall\n\t"
                   "test %%rax, %%rax\n\t"
                   "jnz 1f\n\t"
                   "xor %%ebp, %%ebp\n\t"
                   "mov %%r13, %%rdi\n\t"
                   "call *%%r12\n\t"
                   "mov %%eax, %%edi\n\t"
                   "mov %[exit], %%eax\n\t"
                   "syscall\n\t"
                   "1:"
                   : "=a"(r)
                   : "a"((long)__NR_clone3), "D"(args), "S"(sizeof *args), "r"(f), "r"(a), [exit] "i"(__NR_exit)
                   : "rcx", "r11", "memory");
  return r;
}
#else
long
clone_call (struct clone_args *args, int (*fn) (void *), void *arg)
{
  register int (*f) (void *) __asm__("x19") = fn;
  register void *a __asm__("x20") = arg;
  register long x8 __asm__("x8") = __NR_clone3;
  register long x0 __asm__("x0") = (long)args;
  register long x1 __asm__("x1") = sizeof *args;
  __asm__ volatile("svc 0\n\t"
                   "cbnz x0, 1f\n\t"
                   "mov x29, xzr\n\t"
                   "mov x0, x20\n\t"
                   "blr x19\n\t"
                   "mov x8, %[exit]\n\t"
                   "svc 0\n\t"
                   "1:"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(f), "r"(a), [exit] "i"(__NR_exit)
                   : "memory", "cc", "x30");
  return x0;
}
#endif
