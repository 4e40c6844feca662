/* One supervisor's state, and what its three files give each other. */
#pragma once

#include "process.h"

#include <sys/epoll.h>

enum source
{
  SOURCE_LISTENER,
  SOURCE_CLIENT,
  SOURCE_CHILD,
  SOURCE_OUTPUT,
  SOURCE_OWNER,
  SOURCE_EXEC,
  SOURCE_HEALTH,
  SOURCE_ORPHAN
};

enum client_flag
{
  CLIENT_USED = 1,
  CLIENT_WAITS_EXIT = 2,
  CLIENT_WATCHES = 4
};

struct supervisor
{
  struct plan plan;
  struct start start;
  struct pyc_record record;
  struct failure failed_start;
  int start_conn;
  int epoll;
  int directory;
  int state_fd;
  int log_fd;
  int listener;
  int owner;
  int stdin_fd;
  int output[2];
  int caller_stdin;
  uint32_t rows;
  uint32_t columns;
  bool paused;
  bool over;
  bool destroy;
  bool stopping;
  bool owner_gone;
  bool has_memory_limit;
  bool output_blocked;
  bool scratch_used;
  uint32_t restarts_in_row;
  uint32_t exec_count;
  /* Monotonic deadlines in ns, 0 for none. */
  uint64_t started_mono;
  uint64_t stop_at;
  uint64_t kill_at;
  uint64_t restart_at;
  uint64_t health_at;
  uint64_t health_limit_at;
  uint64_t unblock_at;
  char path[108];
  char id[80];
};
extern struct supervisor sv;

/* supervisor.c */
void record_write (void);
void event_write (const char *action, const char *name, int number);
void plan_reload (void);
int container_start (void);
void container_ended (void);
void container_restart (void);
/* 0 or -errno: -ESRCH not running, -EALREADY paused, -EINVAL not paused, -EOPNOTSUPP no freezer. */
long container_signal (int number);
long container_freeze (bool on);
/* `timeout` in ns before SIGKILL; UINT64_MAX for never. */
void container_stop (int number, uint64_t timeout);
void container_destroy (void);

/* clients.c: connections, and the loop. */
void watch_fd (int fd, enum source source, int index, uint32_t events);
void clients_init (void);
void client_add (int conn, uint32_t flags);
void start_reply (int conn);
void watchers_wake (void);
/* The last word to everyone who waits. */
void clients_finish (void);
void serve_once (char *buffer, usize size);

/* output.c: the container's streams into its log. */
void output_read (int index);
void output_drain (void);
void output_idle (void);

/* execs.c: execs and health checks. */
void exec_begin (int client, int conn, struct message *m);
void exec_ended (int index);
void exec_client_gone (int client);
void exec_kill (int client);
long exec_signal (int client, int number);
void execs_end (void);
bool exec_is (int pid);
/* In the host's pid namespace: what the container's processes leave behind becomes the supervisor's. */
void orphans_adopt (void);
void orphans_reap (void);
void orphans_kill (void);
void health_begin (void);
void health_end (void);
void health_tick (uint64_t now);
void health_output (void);
