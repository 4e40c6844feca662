/* A walk over all that is below a directory, sorted by name, in bounded memory and with bounded descriptors. */
#pragma once

#include <stddef.h>

#include "paths.h"

enum
{
  WALK_DEPTH_MAX = (ARCHIVE_PATH_MAX + 1) / 2 /* levels that a longest path can have */
};

/* One entry, as long as the visitor runs. */
struct walk_item
{
  int dir;          /* the directory it is in */
  int fd;           /* itself, O_PATH; -1 without WALK_OPEN */
  const char *name; /* below dir */
  const char *path; /* below the top, without a leading slash */
  size_t depth;     /* 0 for those right below the top */
  struct statx st;
};

enum walk_flag
{
  WALK_OPEN = 1 /* open each entry, so that its state and contents are surely those of one file */
};

/* Visitors return 0 to go on (into a directory), WALK_SKIP not to go into it, or -errno to stop. */
enum
{
  WALK_SKIP = 1
};
typedef int walk_visit (void *context, const struct walk_item *item);

/* Visits all entries below the directory `top`: those of a directory sorted by bytes, a directory before what is below
   it. What vanishes meanwhile is left out; a symlink is never followed. Uses static memory: one walk at a time.
   Returns 0, -errno with *error filled, or what the visitor returned. */
int walk_below (int top, unsigned flags, walk_visit *visit, void *context, struct archive_error *error);

/* Forgets all files of link_first. */
void links_begin (void);

/* Remembers a file with several names. Returns the name (or "") under which it was seen first, which stays valid;
   NULL if this is the first time or there's no room for more. `name` may be NULL. */
const char *links_first (const struct statx *st, const char *name);
