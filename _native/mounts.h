/* Mounts and paths below a container's root. Every function returns a descriptor or 0, or -errno. */
#pragma once

#include "core.h"

#include <linux/stat.h>

/* Opens `path` with `root` as the root directory; symbolic links are followed inside it, magic links never. */
long root_open (int root, const char *path, int flags, uint64_t resolve);
/* The same as O_PATH, making what is missing: directories, and a file in the end if `file`. */
long root_make (int root, const char *path, bool file);

/* Detached mounts: a new file system, a clone of a tree, an overlay. `options` and `lowers` are lists. */
long mount_new (const char *type, const char *source, const char *options, uint64_t attrs);
long mount_clone (int at, const char *path, bool recursive);
long mount_overlay (const char *lowers, const char *upper, const char *work, uint32_t flags);
long mount_restrict (int mount, uint64_t attrs, bool recursive);
/* Sets how mounts below it spread: MS_PRIVATE, MS_SLAVE or MS_SHARED. */
long mount_spread (int mount, uint64_t propagation);
/* Puts a detached mount onto the file that `target` is open on. */
long mount_place (int mount, int target);

/* A device node, or a bind of the host's if `host` names one. */
long device_make (int dir, const char *name, uint32_t mode, uint64_t number, const char *host);
/* The nodes, links and directories that every container has in /dev. */
long devices_fill (int dev, bool host_devices);
