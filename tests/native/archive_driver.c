/* Runs one archive or tree function for tests/test_archive.py, freestanding as in the helper program.

   archive_driver COMMAND [KEY=VALUE]...   root directory: descriptor 3; lower layers of a diff: 4 and on
   Reads an archive from 0, writes an archive or a diff to 1, and the result as one line to 2. */
#include <asm/signal.h>
#include <linux/errno.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>

#include "archive.h"
#include "memory.h"
#include "syscalls.h"

static char **words;

static const char *
option (const char *key)
{
  size_t n = strlen (key);
  for (char **w = words; *w != NULL; w++)
    if (text_starts (*w, key) && (*w)[n] == '=')
      return *w + n + 1;
  return NULL;
}

static uint64_t
number (const char *key)
{
  const char *text = option (key);
  uint64_t n = 0;
  for (; text != NULL && *text >= '0' && *text <= '9'; text++)
    n = n * 10 + (unsigned)(*text - '0');
  return n;
}

static void
say (const char *text)
{
  sys (write, 2, text, strlen (text));
}

static void
say_number (uint64_t n)
{
  char text[24];
  size_t size = text_number (text, n);
  text[size++] = ' ';
  sys (write, 2, text, size);
}

/* As container engines' filters did before they knew openat2, or as a security module does to mknod. */
static void
forbid (unsigned call, unsigned error)
{
  struct sock_filter code[] = { { BPF_LD | BPF_W | BPF_ABS, 0, 0, 0 },
                                { BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call },
                                { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | error },
                                { BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW } };
  struct sock_fprog program = { sizeof code / sizeof *code, code };
  sys (prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  sys (prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

static int
run_unpack (struct archive_error *error)
{
  static struct unpack_result result;
  struct unpack_options options = {
    .flags = (uint32_t)number ("flags"),
    .uid = (uint32_t)number ("uid"),
    .gid = (uint32_t)number ("gid"),
    .max_path = (uint32_t)number ("max_path"),
    .max_entries = number ("max_entries"),
    .max_bytes = number ("max_bytes"),
    .max_size = number ("max_size"),
    .max_xattr = number ("max_xattr"),
    .base = option ("base"),
  };
  int rc = archive_unpack (0, 3, &options, &result);
  *error = result.error;
  say_number (result.entries);
  say_number (result.bytes);
  say_number (result.skipped_xattrs);
  say_number (result.skipped_devices);
  return rc;
}

static int
run_pack (struct archive_error *error)
{
  struct pack_options options = {
    .flags = (uint32_t)number ("flags"),
    .uid = (uint32_t)number ("uid"),
    .gid = (uint32_t)number ("gid"),
    .name = option ("name"),
  };
  return archive_pack (3, option ("path"), 1, &options, error);
}

static int
run_diff (struct archive_error *error)
{
  static const int lowers[] = { 4, 5, 6, 7, 8, 9 };
  return tree_diff (3, lowers, number ("lowers"), 1, (uint32_t)number ("flags"), error);
}

static int
run_usage (struct archive_error *error)
{
  struct tree_usage usage = { 0, 0, 0 };
  int rc = tree_usage (3, &usage, error);
  say_number (usage.disk);
  say_number (usage.size);
  say_number (usage.inodes);
  return rc;
}

static int
run (const char *command, struct archive_error *error)
{
  if (strcmp (command, "unpack") == 0)
    return run_unpack (error);
  if (strcmp (command, "pack") == 0)
    return run_pack (error);
  if (strcmp (command, "remove") == 0)
    return tree_remove (3, option ("name"), error);
  if (strcmp (command, "diff") == 0)
    return run_diff (error);
  if (strcmp (command, "usage") == 0)
    return run_usage (error);
  return -ENOSYS;
}

__attribute__ ((used)) void
driver_main (long *stack)
{
  static struct archive_error error;
  struct sigaction ignore = { .sa_handler = SIG_IGN };
  words = (char **)(stack + 1);
  sys (rt_sigaction, SIGPIPE, &ignore, NULL, 8);
  if (number ("no_openat2") > 0)
    forbid (__NR_openat2, (unsigned)number ("no_openat2"));
  if (number ("no_mknod") > 0)
    forbid (__NR_mknodat, (unsigned)number ("no_mknod"));
  int rc = run (words[1], &error);
  say (archive_step_name (error.step));
  say (":");
  say_number ((uint64_t)error.error);
  say (error.path);
  say ("\n");
  sys (exit_group, rc == 0 ? 0 : 1);
  __builtin_unreachable ();
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call driver_main\n");
#else
__asm__(".globl _start\n_start:\n  mov x29, #0\n  mov x0, sp\n  bl driver_main\n");
#endif
