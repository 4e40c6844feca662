/* Process 1 of a container that asks for one: passes signals on to the command, and reaps orphans. */
#include "core.h"

/* All signals but those of faults and of job control arrive by sigtimedwait(2). */
static const uint64_t CAUGHT
    = ~((1ull << (SIGKILL - 1)) | (1ull << (SIGSTOP - 1)) | (1ull << (SIGSEGV - 1)) | (1ull << (SIGBUS - 1))
        | (1ull << (SIGFPE - 1)) | (1ull << (SIGILL - 1)) | (1ull << (SIGTRAP - 1)) | (1ull << (SIGABRT - 1))
        | (1ull << (SIGTTIN - 1)) | (1ull << (SIGTTOU - 1)));

static void
reap (long child)
{
  for (;;)
    {
      int status;
      long pid = sys (wait4, -1, &status, 1 /* WNOHANG */, 0);
      if (pid <= 0)
        return;
      if (pid == child)
        leave ((status & 0x7f) ? 128 + (status & 0x7f) : status >> 8 & 0xff);
    }
}

_Noreturn void
init_main (char **argv, char **env)
{
  struct clone_args args = { .exit_signal = SIGCHLD };
  uint64_t none = 0;
  long child;

  sys (rt_sigprocmask, 0 /* SIG_BLOCK */, &CAUGHT, 0, 8);
  /* clone, not clone3: a container's filter answers that one with ENOSYS. */
  (void)args;
  child = sys (clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0)
    {
      sys (setpgid, 0, 0);
      /* TIOCSPGRP from the background would stop it: SIGTTOU is ignored for this one call by being blocked. */
      uint64_t out = 1ull << (SIGTTOU - 1);
      int self = (int)sys (getpid);
      sys (rt_sigprocmask, 0, &out, 0, 8);
      sys (ioctl, 0, 0x5410 /* TIOCSPGRP */, &self);
      sys (rt_sigprocmask, 2, &none, 0, 8);
      leave (sys (execve, argv[1], argv + 2, env) == -ENOENT ? 127 : 126);
    }
  if (child < 0)
    leave (125);
  for (;;)
    {
      long number = sys (rt_sigtimedwait, &CAUGHT, 0, 0, 8);
      if (number == SIGCHLD)
        reap (child);
      else if (number > 0)
        sys (kill, child, number);
    }
}
