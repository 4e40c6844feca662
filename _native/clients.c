/* The supervisor's clients, and the loop that serves them with everything else. */
#include "supervisor.h"

#include <sys/stat.h>

#define CLIENTS_MAX 1024

static struct
{
  int fd;
  uint32_t flags;
  int64_t log_known;
  uint64_t sequence_known;
} clients[CLIENTS_MAX];
static int client_top;

/* -- epoll --------------------------------------------------------------------------------------------------------------- */

void
watch_fd (int fd, enum source source, int index, uint32_t events)
{
  struct epoll_event event = { .events = events, .data.u64 = (uint64_t)source << 32 | (uint32_t)index };
  if (sys (epoll_ctl, sv.epoll, EPOLL_CTL_ADD, fd, &event) == -EEXIST)
    sys (epoll_ctl, sv.epoll, EPOLL_CTL_MOD, fd, &event);
}

/* -- answers --------------------------------------------------------------------------------------------------------------- */

static void
reply (int conn, uint32_t kind, long error, int fd)
{
  struct pyc_reply r = { .kind = error < 0 ? PYC_REPLY_FAILED : kind, .error = (int)-error, .step = PYC_STEP_STATE };
  if (error >= 0)
    r.error = 0;
  reply_send (conn, &r, fd);
}

static void
state_send (int conn, uint32_t kind)
{
  struct
  {
    struct pyc_reply head;
    struct pyc_record record;
  } both = { { .kind = kind, .exit_code = sv.record.exit_code, .flags = sv.record.flags, .a = (int64_t)sv.record.log_end },
             sv.record };
  message_send (conn, &both, sizeof both, sv.log_fd);
}

void
start_reply (int conn)
{
  state_send (conn, PYC_REPLY_STARTED);
}

void
watchers_wake (void)
{
  for (int i = 0; i < client_top; i++)
    if (clients[i].flags & CLIENT_WATCHES
        && (clients[i].sequence_known != sv.record.sequence
            || (clients[i].log_known >= 0 && (uint64_t)clients[i].log_known < sv.record.log_end)))
      {
        clients[i].flags &= ~(uint32_t)CLIENT_WATCHES;
        state_send (clients[i].fd, PYC_REPLY_STATE);
      }
}

void
clients_finish (void)
{
  if (sv.failed_start.error)
    reply_failure (sv.start_conn, &sv.failed_start);
  for (int i = 0; i < client_top; i++)
    {
      if (clients[i].flags & CLIENT_WAITS_EXIT)
        state_send (clients[i].fd, PYC_REPLY_EXITED);
      if (clients[i].flags & CLIENT_USED)
        sys (close, clients[i].fd);
    }
  if (sv.failed_start.error)
    sys (close, sv.start_conn);
}

/* -- connections ------------------------------------------------------------------------------------------------------------ */

void
clients_init (void)
{
  client_top = 0;
}

void
client_add (int conn, uint32_t flags)
{
  int i = 0;
  while (i < client_top && clients[i].flags & CLIENT_USED)
    i++;
  if (i == CLIENTS_MAX)
    {
      sys (close, conn);
      return;
    }
  if (i == client_top)
    client_top++;
  clients[i].fd = conn;
  clients[i].flags = CLIENT_USED | flags;
  watch_fd (conn, SOURCE_CLIENT, i, EPOLLIN | EPOLLRDHUP);
}

static void
client_drop (int i)
{
  /* Nobody waits for this run any more. */
  if (clients[i].flags & CLIENT_WAITS_EXIT)
    container_destroy ();
  struct epoll_event none;
  exec_client_gone (i);
  sys (epoll_ctl, sv.epoll, EPOLL_CTL_DEL, clients[i].fd, &none);
  sys (close, clients[i].fd);
  clients[i].flags = 0;
  while (client_top && !(clients[client_top - 1].flags & CLIENT_USED))
    client_top--;
}

static void
client_accept (void)
{
  struct ucred peer;
  unsigned length = sizeof peer;
  long conn = sys (accept4, sv.listener, 0, 0, SOCK_CLOEXEC);
  if (conn < 0)
    return;
  if (sys (getsockopt, conn, SOL_SOCKET, SO_PEERCRED, &peer, &length) || peer.uid != 0)
    sys (close, conn);
  else
    client_add ((int)conn, 0);
}

/* The write end of the container's stdin: lent, or (stdin-once) given away, so that its holder's end is the end. */
static void
stdin_give (int conn)
{
  struct pyc_reply r = { .kind = PYC_REPLY_DONE };
  if (sv.start.master >= 0)
    {
      r.flags = 1;
      reply_send (conn, &r, sv.start.master);
      return;
    }
  reply_send (conn, &r, sv.stdin_fd);
  if (sv.plan.head->flags & PYC_PLAN_STDIN_ONCE && sv.stdin_fd >= 0)
    {
      sys (close, sv.stdin_fd);
      sv.stdin_fd = -1;
    }
}

static int made_socket;
static const struct message *socket_message;

static int
socket_main (void *arg)
{
  (void)arg;
  made_socket = (int)sys (setns, sv.start.pidfd, CLONE_NEWNET);
  if (made_socket == 0)
    made_socket = (int)sys (socket, socket_message->head.a, socket_message->head.b, socket_message->head.c);
  return 0;
}

/* A socket belongs to the network namespace it is made in: a child that shares our descriptors makes it there. */
static void
socket_give (int conn, const struct message *m)
{
  struct clone_args args = {
    .flags = CLONE_VM | CLONE_VFORK | CLONE_FILES,
    .exit_signal = SIGCHLD,
    .stack = (uint64_t)(uintptr_t)scratch.stack,
    .stack_size = STACK_SIZE,
  };
  long pid;
  made_socket = -ESRCH;
  socket_message = m;
  pid = sv.start.pidfd < 0 ? -ESRCH : clone_call (&args, socket_main, 0);
  if (pid > 0)
    sys (wait4, pid, 0, 0, 0);
  if (made_socket < 0)
    reply (conn, PYC_REPLY_FAILED, made_socket, -1);
  else
    {
      reply (conn, PYC_REPLY_DONE, 0, made_socket);
      sys (close, made_socket);
    }
}

static void
client_watch (int i, const struct message *m)
{
  clients[i].log_known = m->head.a;
  clients[i].sequence_known = (uint64_t)m->head.b;
  clients[i].flags |= CLIENT_WATCHES;
  watchers_wake ();
}

static void
client_serve (int i, char *buffer, usize size)
{
  static struct message m;
  int conn = clients[i].fd;

  if (message_receive (conn, &m, buffer, size))
    {
      client_drop (i);
      return;
    }
  switch (m.head.kind)
    {
    case PYC_REQ_WATCH:
      client_watch (i, &m);
      break;
    case PYC_REQ_SIGNAL:
      /* As Docker has it: who kills a container, or sends what stops it, does not want it restarted. */
      if (m.head.a == SIGKILL || m.head.a == sv.plan.head->stop_signal)
        sv.record.flags |= PYC_RECORD_STOPPED;
      reply (conn, PYC_REPLY_DONE, container_signal ((int)m.head.a), -1);
      break;
    case PYC_REQ_STOP:
      container_stop ((int)m.head.a, (uint64_t)m.head.b);
      reply (conn, PYC_REPLY_DONE, 0, -1);
      break;
    case PYC_REQ_PAUSE:
    case PYC_REQ_UNPAUSE:
      reply (conn, PYC_REPLY_DONE, container_freeze (m.head.kind == PYC_REQ_PAUSE), -1);
      break;
    case PYC_REQ_EXEC:
      exec_begin (i, conn, &m);
      break;
    case PYC_REQ_EXEC_KILL:
      exec_kill (i);
      break;
    case PYC_REQ_EXEC_SIGNAL:
      exec_signal (i, (int)m.head.a);
      break;
    case PYC_REQ_STDIN:
      stdin_give (conn);
      break;
    case PYC_REQ_CLOSE_STDIN:
      if (sv.stdin_fd >= 0)
        sys (close, sv.stdin_fd);
      sv.stdin_fd = -1;
      reply (conn, PYC_REPLY_DONE, 0, -1);
      break;
    case PYC_REQ_PIDFD:
      reply (conn, PYC_REPLY_DONE, sv.start.pidfd < 0 ? -ESRCH : 0, sv.start.pidfd);
      break;
    case PYC_REQ_ROOT:
      reply (conn, PYC_REPLY_DONE, sv.start.overlay < 0 ? -ESRCH : 0, sv.start.overlay);
      break;
    case PYC_REQ_SOCKET:
      socket_give (conn, &m);
      break;
    case PYC_REQ_RELOAD:
      plan_reload ();
      reply (conn, PYC_REPLY_DONE, 0, -1);
      break;
    case PYC_REQ_DESTROY:
      clients[i].flags |= CLIENT_WAITS_EXIT;
      container_destroy ();
      break;
    default:
      reply (conn, PYC_REPLY_FAILED, -ENOSYS, -1);
    }
  message_close (&m);
}

/* -- the loop ----------------------------------------------------------------------------------------------------------------- */

static void
earliest (uint64_t *at, uint64_t deadline)
{
  if (deadline && deadline < *at)
    *at = deadline;
}

static int
loop_timeout (uint64_t now)
{
  uint64_t at = UINT64_MAX;
  earliest (&at, sv.kill_at);
  earliest (&at, sv.restart_at);
  earliest (&at, sv.health_at);
  earliest (&at, sv.health_limit_at);
  earliest (&at, sv.unblock_at);
  if (at == UINT64_MAX)
    return -1;
  if (at <= now)
    return 0;
  at = (at - now + 999999) / 1000000;
  return at > 3600000 ? 3600000 : (int)at;
}

static void
timers_run (void)
{
  uint64_t now = now_ns (1);
  if (sv.kill_at && sv.kill_at <= now)
    {
      sv.kill_at = 0;
      container_signal (SIGKILL);
    }
  if (sv.unblock_at && sv.unblock_at <= now)
    output_read (-1);
  if (sv.restart_at && sv.restart_at <= now)
    container_restart ();
  health_tick (now);
}

static void
event_serve (struct epoll_event *event, char *buffer, usize size)
{
  int index = (int)(uint32_t)event->data.u64;
  switch ((enum source) (event->data.u64 >> 32))
    {
    case SOURCE_LISTENER:
      client_accept ();
      break;
    case SOURCE_CLIENT:
      if (clients[index].flags & CLIENT_USED)
        client_serve (index, buffer, size);
      break;
    case SOURCE_CHILD:
      container_ended ();
      break;
    case SOURCE_OUTPUT:
      output_read (index);
      break;
    case SOURCE_OWNER:
      sv.owner_gone = true;
      sv.record.flags |= PYC_RECORD_OWNER_GONE;
      sys (close, sv.owner);
      sv.owner = -1;
      container_destroy ();
      break;
    case SOURCE_EXEC:
      exec_ended (index);
      break;
    case SOURCE_HEALTH:
      health_output ();
      break;
    case SOURCE_ORPHAN:
      orphans_reap ();
      break;
    }
}

/* One event at a time: serving one may make another's descriptor another thing's. */
void
serve_once (char *buffer, usize size)
{
  struct epoll_event event;
  int timeout = loop_timeout (now_ns (1));
  long n = sys (epoll_pwait, sv.epoll, &event, 1, 0, 0, 8);
  if (n == 0 && timeout)
    {
      output_idle ();
      n = sys (epoll_pwait, sv.epoll, &event, 1, timeout, 0, 8);
    }
  if (n > 0)
    event_serve (&event, buffer, size);
  if (timeout >= 0)
    timers_run ();
}
