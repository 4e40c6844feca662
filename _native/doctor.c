/* What this kernel lets this user do, tried for real: each line of the output is a thing's name and 0 or an errno. */
#include "mounts.h"

#include <linux/mount.h>
#include <linux/seccomp.h>

static void
tell (const char *name, long error)
{
  char line[64];
  usize n = text_copy (line, 40, name);
  line[n++] = ' ';
  n += text_number (line + n, (uint64_t)(error < 0 ? -error : 0));
  line[n++] = '\n';
  sys (write, 1, line, n);
}

/* With arguments that make no sense a call fails, but not by saying that there is none, or that a filter keeps it away. */
static void
tell_call (const char *name, long error)
{
  tell (name, error == -ENOSYS || error == -EPERM ? error : 0);
}

static void
calls_try (void)
{
  uint32_t action = SECCOMP_RET_ERRNO;
  tell_call ("call.openat2", sys (openat2, -1, "", 0, 0));
  tell_call ("call.clone3", sys (clone3, 0, 0));
  tell_call ("call.close_range", sys (close_range, 1, 0, 0));
  tell_call ("call.pidfd_open", sys (pidfd_open, -1, 0));
  tell_call ("call.pidfd_send_signal", sys (pidfd_send_signal, -1, 0, 0, 0));
  tell_call ("call.execveat", sys (execveat, -1, "x", 0, 0, ~0u));
  tell_call ("call.mount_setattr", sys (mount_setattr, -1, "", ~0u, 0, 0));
  tell_call ("call.open_tree", sys (open_tree, -1, "", ~0u));
  /* These ask for the right to mount before they look at anything else. */
  tell ("call.move_mount", sys (move_mount, -1, "", -1, "", ~0u) == -ENOSYS ? -ENOSYS : 0);
  tell ("call.fsopen", sys (fsopen, 0, ~0u) == -ENOSYS ? -ENOSYS : 0);
  tell ("seccomp", sys (seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
}

static long
text_write (const char *path, const char *text)
{
  long fd = sys (openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
  long e = fd < 0 ? fd : sys (write, fd, text, strlen (text));
  if (fd >= 0)
    sys (close, fd);
  return e < 0 ? e : 0;
}

static long
single_id_map (uint64_t uid, uint64_t gid)
{
  char line[48];
  usize n = text_copy (line, sizeof line, "0 ");
  long e;
  n += text_number (line + n, uid);
  text_copy (line + n, sizeof line - n, " 1\n");
  e = text_write ("/proc/self/setgroups", "deny");
  if (e == 0)
    e = text_write ("/proc/self/uid_map", line);
  n = text_copy (line, sizeof line, "0 ");
  n += text_number (line + n, gid);
  text_copy (line + n, sizeof line - n, " 1\n");
  return e ? e : text_write ("/proc/self/gid_map", line);
}

/* A kernel before 6.7 takes lower directories in one text only. */
static long
lowers_try (void)
{
  long fs = sys (fsopen, "overlay", FSOPEN_CLOEXEC);
  long e = fs < 0 ? fs : sys (fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir+", "lower", 0);
  if (fs >= 0)
    sys (close, fs);
  return e;
}

static void
overlay_try (uint32_t flags)
{
  static const char LOWERS[] = "lower\0";
  long fd = mount_overlay (LOWERS, "upper", "work", flags);
  long e = fd < 0 ? fd : sys (openat, fd, "written", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  tell ("overlay", fd);
  if (fd < 0)
    return;
  tell ("overlay.write", e);
  /* A whiteout, in the write layer. */
  tell ("overlay.remove", sys (unlinkat, fd, "below", 0));
  tell ("overlay.lowers", lowers_try ());
}

static _Noreturn void
mounts_try (bool rootless)
{
  static const char NONE[] = "\0";
  tell ("proc", mount_new ("proc", "proc", NONE, 0));
  tell ("sysfs", mount_new ("sysfs", "sysfs", NONE, 0));
  tell ("tmpfs", mount_new ("tmpfs", "tmpfs", NONE, 0));
  overlay_try (rootless ? PYC_OP_USERXATTR : 0);
  leave (0);
}

static _Noreturn void
namespaces_try (const char *directory)
{
  static const struct
  {
    const char *name;
    long flag;
  } KINDS[]
      = { { "namespace.net", CLONE_NEWNET }, { "namespace.ipc", CLONE_NEWIPC },       { "namespace.uts", CLONE_NEWUTS },
          { "namespace.pid", CLONE_NEWPID }, { "namespace.cgroup", CLONE_NEWCGROUP }, { "namespace.mount", CLONE_NEWNS } };
  long uid = sys (geteuid);
  long gid = sys (getegid);
  long e = 0;

  if (uid)
    {
      e = sys (unshare, CLONE_NEWUSER);
      tell ("namespace.user", e);
      if (e)
        leave (0);
      tell ("id-map", single_id_map ((uint64_t)uid, (uint64_t)gid));
    }
  for (usize i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
    {
      e = sys (unshare, KINDS[i].flag);
      tell (KINDS[i].name, e);
    }
  if (e == 0)
    e = sys (mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0);
  if (e == 0)
    e = sys (chdir, directory);
  if (e)
    leave (0);
  e = sys (clone, SIGCHLD, 0, 0, 0, 0);
  if (e == 0)
    mounts_try (uid != 0);
  if (e > 0)
    sys (wait4, e, 0, 0, 0);
  leave (0);
}

/* `directory` holds the directories lower (with a file, below), upper, work and mnt. */
_Noreturn void
doctor_main (const char *directory)
{
  long pid;
  calls_try ();
  pid = sys (clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0)
    namespaces_try (directory);
  if (pid > 0)
    sys (wait4, pid, 0, 0, 0);
  leave (0);
}
