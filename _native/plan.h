/* The formats shared by Python, the extension and the helper program: requests, plans, records, log frames.
   No line of this file begins with a number sign, so that cffi reads it as it is. Integers are of the machine's own
   byte order: nothing here leaves the machine. A text is an offset from the start of its plan, 0 for none; a list is an
   offset to NUL-ended texts that an empty one ends. */

enum pyc_limits
{
  PYC_PLAN_MAX = 4194304,
  PYC_MESSAGE_MAX = 131072,
  PYC_FDS_MAX = 64,
  PYC_CGROUPS_MAX = 12,
  PYC_HEALTH_OUTPUT = 4096
};

enum pyc_magic
{
  PYC_PLAN_MAGIC = 0x31435950,
  PYC_RECORD_MAGIC = 0x32435950,
  PYC_REQUEST_MAGIC = 0x33435950
};

/* What a client asks. The first group goes to a launcher, the rest to a supervisor. */
enum pyc_request_kind
{
  PYC_REQ_INIT = 1,
  PYC_REQ_START,
  PYC_REQ_RETIRE,
  PYC_REQ_UNPACK,
  PYC_REQ_PACK,
  PYC_REQ_REMOVE,
  PYC_REQ_DIFF,
  PYC_REQ_USAGE,
  PYC_REQ_FILE,
  PYC_REQ_SYNC,
  PYC_REQ_WATCH = 32,
  PYC_REQ_SIGNAL,
  PYC_REQ_STOP,
  PYC_REQ_PAUSE,
  PYC_REQ_UNPAUSE,
  PYC_REQ_EXEC,
  PYC_REQ_EXEC_KILL,
  PYC_REQ_EXEC_SIGNAL,
  PYC_REQ_STDIN,
  PYC_REQ_CLOSE_STDIN,
  PYC_REQ_PIDFD,
  PYC_REQ_SOCKET,
  PYC_REQ_RELOAD,
  PYC_REQ_DESTROY,
  PYC_REQ_ROOT
};

enum pyc_request_flag
{
  PYC_REQ_REPLY_AT_EXIT = 1,
  PYC_REQ_PAYLOAD_IN_FD = 2,
  PYC_REQ_KILL_ON_CLOSE = 4,
  PYC_REQ_HAS_OWNER = 8,
  PYC_REQ_HAS_STDIN = 16,
  PYC_REQ_HAS_STDOUT = 32,
  PYC_REQ_HAS_STDERR = 64
};

/* A request's head; `length` bytes of payload follow it, or stand in its first descriptor. Descriptors: payload, owner,
   stdin, stdout, stderr as the flags say, then those of the plan's slots. */
struct pyc_request
{
  uint32_t magic;
  uint32_t kind;
  uint32_t flags;
  uint32_t length;
  int64_t a;
  int64_t b;
  int64_t c;
  uint32_t text;
  uint32_t text2;
};

/* Where a job's paths begin: a tree of the store, a descriptor that came along, an ended container's root. */
enum pyc_root
{
  PYC_ROOT_STORE,
  PYC_ROOT_GIVEN,
  PYC_ROOT_ENDED
};

enum pyc_file_op
{
  PYC_FILE_OPEN = 1,
  PYC_FILE_MKDIR,
  PYC_FILE_UNLINK,
  PYC_FILE_RMDIR,
  PYC_FILE_RENAME,
  PYC_FILE_SYMLINK,
  PYC_FILE_READLINK,
  PYC_FILE_CHMOD
};

enum pyc_reply_kind
{
  PYC_REPLY_DONE = 1,
  PYC_REPLY_FAILED,
  PYC_REPLY_STARTED,
  PYC_REPLY_EXITED,
  PYC_REPLY_STATE,
  PYC_REPLY_MAP_IDS,
  PYC_REPLY_STALE
};

/* Where a failed start failed. */
enum pyc_step
{
  PYC_STEP_NONE,
  PYC_STEP_PLAN,
  PYC_STEP_LOCK,
  PYC_STEP_FILES,
  PYC_STEP_CGROUP,
  PYC_STEP_CGROUP_WRITE,
  PYC_STEP_CGROUP_JOIN,
  PYC_STEP_ATTACH,
  PYC_STEP_OVERLAY,
  PYC_STEP_NETWORK,
  PYC_STEP_TERMINAL,
  PYC_STEP_CLONE,
  PYC_STEP_ROOT,
  PYC_STEP_MOUNT,
  PYC_STEP_BIND,
  PYC_STEP_DEVICES,
  PYC_STEP_FILE,
  PYC_STEP_MASK,
  PYC_STEP_SYSCTL,
  PYC_STEP_HOSTNAME,
  PYC_STEP_PIVOT,
  PYC_STEP_NAMESPACE,
  PYC_STEP_LIMIT,
  PYC_STEP_USER,
  PYC_STEP_CAPABILITIES,
  PYC_STEP_SECCOMP,
  PYC_STEP_WORKDIR,
  PYC_STEP_STDIO,
  PYC_STEP_EXEC,
  PYC_STEP_STATE,
  PYC_STEP_ARCHIVE
};

struct pyc_reply
{
  uint32_t kind;
  int32_t error;
  uint32_t step;
  uint32_t op;
  int32_t exit_code;
  uint32_t flags;
  int64_t a;
  int64_t b;
  char text[200];
};

enum pyc_status
{
  PYC_STATUS_CREATED,
  PYC_STATUS_RUNNING,
  PYC_STATUS_PAUSED,
  PYC_STATUS_RESTARTING,
  PYC_STATUS_EXITED,
  PYC_STATUS_REMOVED
};

enum pyc_record_flag
{
  PYC_RECORD_OOM = 1,
  PYC_RECORD_STOPPED = 2,
  PYC_RECORD_OWNER_GONE = 4
};

enum pyc_health
{
  PYC_HEALTH_NONE,
  PYC_HEALTH_STARTING,
  PYC_HEALTH_HEALTHY,
  PYC_HEALTH_UNHEALTHY
};

/* A container's live state, the whole of its file `state`; written by the supervisor alone, in one call. Whoever holds
   the file's lock is the supervisor; a record that says running with the lock free is of one that died. */
struct pyc_record
{
  uint32_t magic;
  uint32_t status;
  uint64_t sequence;
  int32_t exit_code;
  uint32_t flags;
  uint32_t health;
  uint32_t failing_streak;
  uint32_t restart_count;
  uint32_t exits;
  int32_t error;
  uint32_t error_step;
  uint64_t started;
  uint64_t finished;
  uint64_t log_end;
  uint64_t log_lost;
  uint64_t health_count;
  char boot_id[40];
  char text[200];
};

/* One result of a health check; the file `health` is an array of the last five, by count modulo five. */
struct pyc_health_result
{
  uint64_t start;
  uint64_t end;
  int32_t exit_code;
  uint32_t length;
  char output[4096];
};

/* The log: frames one after another. */
struct pyc_log_frame
{
  uint64_t time;
  uint32_t length;
  uint32_t stream;
};

enum pyc_plan_flag
{
  PYC_PLAN_TTY = 1,
  PYC_PLAN_STDIN_OPEN = 2,
  PYC_PLAN_STDIN_ONCE = 4,
  PYC_PLAN_INIT = 8,
  PYC_PLAN_AUTO_REMOVE = 16,
  PYC_PLAN_OWNED = 32,
  PYC_PLAN_HOST_PID = 64,
  PYC_PLAN_NEW_NETWORK = 128,
  PYC_PLAN_NO_NEW_PRIVS = 256,
  PYC_PLAN_NEW_USER = 512,
  PYC_PLAN_CGROUP_NAMESPACE = 1024,
  PYC_PLAN_NO_SETGROUPS = 2048,
  PYC_PLAN_TRACEABLE = 4096
};

enum pyc_restart
{
  PYC_RESTART_NO,
  PYC_RESTART_ALWAYS,
  PYC_RESTART_UNLESS_STOPPED,
  PYC_RESTART_ON_FAILURE
};

enum pyc_op_code
{
  PYC_OP_CGROUP = 1,
  PYC_OP_CGROUP_WRITE,
  PYC_OP_ATTACH,
  PYC_OP_OVERLAY,
  PYC_OP_CHILD,
  PYC_OP_CGROUP_JOIN,
  PYC_OP_ROOT,
  PYC_OP_MOUNT,
  PYC_OP_BIND,
  PYC_OP_DEVICES,
  PYC_OP_DEVICE,
  PYC_OP_FILE,
  PYC_OP_MASK,
  PYC_OP_READONLY,
  PYC_OP_MKDIR,
  PYC_OP_SYSCTL,
  PYC_OP_HOSTNAME,
  PYC_OP_DOMAINNAME,
  PYC_OP_SUBROOT,
  PYC_OP_LIMIT,
  PYC_OP_OOM_SCORE,
  PYC_OP_DEVICE_FILTER
};

enum pyc_op_flag
{
  PYC_OP_OPTIONAL = 1,
  PYC_OP_RDONLY = 2,
  PYC_OP_VOLATILE = 4,
  PYC_OP_USERXATTR = 8,
  PYC_OP_RECURSIVE = 16,
  PYC_OP_UNIFIED = 32,
  PYC_OP_HOST_DEVICES = 64,
  PYC_OP_IS_FILE = 128
};

/* One step. An OPTIONAL cgroup is shared, and stays. Ops before CHILD are carried out by the supervisor, those after it by the container's first process. */
struct pyc_op
{
  uint32_t code;
  uint32_t flags;
  int32_t slot;
  uint32_t a;
  uint32_t b;
  uint32_t c;
  uint64_t x;
  uint64_t y;
};

/* What a process becomes: the last part of a start, and the whole of an exec. */
struct pyc_process
{
  uint32_t argv;
  uint32_t env;
  uint32_t user;
  uint32_t groups;
  uint32_t workdir;
  uint32_t path;
  uint32_t flags;
  uint32_t filter;
  uint32_t filter_length;
  uint32_t rows;
  uint32_t columns;
  uint32_t home;
  uint64_t capabilities;
  uint64_t bounding;
  uint64_t ambient;
};

struct pyc_plan
{
  uint32_t magic;
  uint32_t size;
  uint32_t op_count;
  uint32_t ops;
  uint32_t flags;
  uint32_t clone_flags;
  uint32_t stop_signal;
  uint32_t restart;
  uint32_t restart_limit;
  uint32_t event;
  uint32_t cgroup;
  uint32_t unified;
  uint64_t stop_timeout;
  uint64_t health_interval;
  uint64_t health_timeout;
  uint64_t health_start_period;
  uint64_t health_start_interval;
  uint32_t health_retries;
  uint32_t has_health;
  struct pyc_process process;
  struct pyc_process health;
};
