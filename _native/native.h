/* What Python calls in its own process. Nothing here allocates, prints or exits; cffi releases the interpreter's lock
   around every call. */

int pyc_abi (void);

/* Connects to the SEQPACKET socket `path` below the directory root_fd, sends one message with descriptors, and waits at
   most timeout_ms (-1: for ever) for the answer. Returns the answer's length, or -errno; -EINTR and -ETIMEDOUT leave
   the connection in *sock, where the answer can still be received. The caller closes *sock and what is in reply_fds. */
long pyc_call (int root_fd, const char *path, const void *request, size_t length, const int *fds, int fd_count, void *reply,
               size_t capacity, int *reply_fds, int *reply_fd_count, int timeout_ms, int *sock);

/* Sends one message. 0 or -errno. */
long pyc_send (int sock, const void *request, size_t length, const int *fds, int fd_count);

/* Receives one message: its length, 0 for an end, -ETIMEDOUT, -EINTR or -errno. At most 4 descriptors. */
long pyc_receive (int sock, void *reply, size_t capacity, int *reply_fds, int *reply_fd_count, int timeout_ms);

/* open_tree(2) with OPEN_TREE_CLONE: a detached copy of the mounts at `path` (or at dir_fd, if it is empty). */
long pyc_open_tree (int dir_fd, const char *path, int recursive);

/* openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS. */
long pyc_open_in_root (int root_fd, const char *path, int flags, int mode);

/* An inotify descriptor, readable once the file `path` is written to, moved or removed; -errno. */
long pyc_watch_file (const char *path);
