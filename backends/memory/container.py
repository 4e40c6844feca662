"""A container in memory: its life, its log, its health checks and its restarts."""

from __future__ import annotations

import errno
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from attrs import evolve

from pycontainers import effective
from pycontainers.backend import STDERR
from pycontainers.backend import STDOUT
from pycontainers.backend import ContainerRecord
from pycontainers.backend import ContainerState
from pycontainers.backend import Health
from pycontainers.backend import HealthResult
from pycontainers.backend import ImageRecord
from pycontainers.backend import LogFrame
from pycontainers.backend import Status
from pycontainers.backend import Stdio
from pycontainers.backends.memory.process import Descriptor
from pycontainers.backends.memory.process import Group
from pycontainers.backends.memory.process import Null
from pycontainers.backends.memory.process import Process
from pycontainers.backends.memory.process import Sink
from pycontainers.backends.memory.programs import start
from pycontainers.backends.memory.tree import Node
from pycontainers.backends.memory.tree import Tree
from pycontainers.backends.memory.tree import directory
from pycontainers.errors import CommandNotExecutable
from pycontainers.errors import CommandNotFound
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import StartFailed
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ExecSpec
from pycontainers.spec import HealthCheck
from pycontainers.spec import parse_signal

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_RESTART = 0.1
_LAST_RESTART = 60.0
#: A run of this many seconds makes the pause before the next restart short again.
_GOOD_RUN = 10.0
RUNNING = (Status.RUNNING, Status.PAUSED)


class _Log:
    """Output as a `Sink`: into the container's log, and to a caller's descriptor too if there is one."""

    def __init__(self, container: MemoryContainer, stream: int, fd: int = -1) -> None:
        self.container = container
        self.stream = stream
        self.copy = Descriptor(fd) if fd >= 0 else None

    def write(self, process: Process, data: bytes) -> None:
        """Append it."""
        process.check()
        self.container.append(self.stream, data)
        if self.copy is not None:
            self.copy.write(process, data)

    def share(self) -> _Log:
        """Return one for another process."""
        return _Log(self.container, self.stream, -1 if self.copy is None else os.dup(self.copy.fd))

    def close(self) -> None:
        """Give it up."""
        if self.copy is not None:
            self.copy.close()


class MemoryContainer:
    """One container. `lock` guards its state and is notified at every change."""

    def __init__(
        self, id: str, name: str, spec: ContainerSpec, image: ImageRecord, root: Node,
        emit: Callable[[MemoryContainer, str, dict[str, str]], None], removed: Callable[[MemoryContainer], None],
    ) -> None:
        self.id = id
        self.name = name
        self.spec = spec
        self.image = image
        self.created = time.time()
        self.lower = root
        self.tree = Tree(root)
        self.lock = threading.Condition(threading.RLock())
        self.state = ContainerState()
        self.log: list[LogFrame] = []
        self.log_lock = threading.Condition()
        self.emit = emit
        self.remove_self = removed
        self.group: Group | None = None
        self.first: Process | None = None
        self.stdin_write = -1
        self.stdin_used = False
        self.stopping = False
        self.runs = 0
        self.removed = False
        self.delay = _FIRST_RESTART

    # -- what it is --------------------------------------------------------------------------------------------------

    def record(self) -> ContainerRecord:
        """Its record now."""
        with self.lock:
            return ContainerRecord(id=self.id, name=self.name, spec=self.spec, image_id=self.image.id, created=self.created,
                                   state=self.state, image_config=self.image.config)

    @property
    def ended(self) -> bool:
        """True once it has ended and nothing will start it again by itself."""
        return self.removed or self.state.status in (Status.EXITED, Status.DEAD)

    def append(self, stream: int, data: bytes) -> None:
        """Write to its log."""
        with self.log_lock:
            self.log.append(LogFrame(stream=stream, time=time.time_ns(), data=data, cursor=len(self.log) + 1))
            self.log_lock.notify_all()

    def frames(self, cursor: int, *, follow: bool, closed: Callable[[], bool] = lambda: False) -> Iterator[LogFrame]:
        """Yield its log after a cursor; with `follow`, until it has ended (of a created one: was started and ended)."""
        while True:
            with self.log_lock:
                while cursor >= len(self.log) and follow and not self.ended and not closed():
                    self.log_lock.wait()
                batch = self.log[cursor:]
                if not batch or closed():
                    return
            cursor += len(batch)
            yield from batch

    def _changed(self, **changes: Any) -> None:
        with self.lock:
            self.state = evolve(self.state, **changes)
            self.lock.notify_all()
        with self.log_lock:
            self.log_lock.notify_all()

    # -- processes ---------------------------------------------------------------------------------------------------

    def _user(self, text: str) -> tuple[int, int, str]:
        """Uid, gid and home of `USER[:GROUP]`, names looked up in the container's own files."""
        name, _, group = text.partition(":")
        if not name:
            return 0, 0, "/root"
        uid, gid, home = -1, 0, "/"
        for fields in self._lines("/etc/passwd", 6):
            if name in (fields[0], fields[2]):
                uid, gid, home = int(fields[2]), int(fields[3]), fields[5]
        if uid < 0:
            if not name.isdigit():
                raise StartFailed(errno.EINVAL, f"unable to find user {name}: no matching entries in passwd file", name)
            uid = int(name)
        if group:
            found = [int(f[2]) for f in self._lines("/etc/group", 3) if group in (f[0], f[2])]
            if not found and not group.isdigit():
                raise StartFailed(errno.EINVAL, f"unable to find group {group}: no matching entries in group file", group)
            gid = found[0] if found else int(group)
        return uid, gid, home

    def _lines(self, path: str, least: int) -> list[list[str]]:
        try:
            content = self.tree.get(path).content
        except OSError:
            return []
        lines = [line.split(":") for line in (content.read() if content else b"").decode("utf-8", "replace").splitlines()]
        return [fields for fields in lines if len(fields) >= least and fields[2].isdigit()]

    def _environment(self, home: str) -> dict[str, str]:
        hostname = self.spec.hostname or self.id[:12]
        return {"PATH": _PATH, "HOSTNAME": hostname, "HOME": home, **effective.environment(self.spec, self.image.config)}

    def begin(self, stdio: Stdio) -> None:
        """Start its command. Raises `InvalidState`, `StartFailed`."""
        with self.lock:
            if self.state.status in RUNNING:
                if self.state.status is Status.PAUSED:
                    raise InvalidState(f"cannot start a paused container, try unpause instead: {self.id[:12]}")
                return
            if self.removed:
                raise InvalidState(f"container {self.id[:12]} is being removed")
            self.stopping = False
            self._begin(stdio)

    def _begin(self, stdio: Stdio) -> None:
        argv = [*effective.command_line(self.spec, self.image.config)]
        if not argv:
            raise InvalidSpec("no command specified: the image has none, and none was given")
        group = Group(self.tree, self.spec.hostname or self.id[:12])
        streams: tuple[Descriptor | None, Sink, Sink]
        stdin: Descriptor | None = None
        if stdio.stdin >= 0:
            stdin = Descriptor(os.dup(stdio.stdin))
        elif self.spec.stdin_open:
            if self.stdin_write < 0:
                self.open_stdin()
            stdin = Descriptor(self.stdin_read)
            self.stdin_read = -1
        out = _Log(self, STDOUT, os.dup(stdio.stdout) if stdio.stdout >= 0 else -1)
        err = _Log(self, STDERR, os.dup(stdio.stderr) if stdio.stderr >= 0 else -1)
        streams = (stdin, out, err)
        try:
            uid, gid, home = self._user(self.spec.user or self.image.config.user)
            cwd = self.spec.workdir or self.image.config.workdir or "/"
            self._make_directories(cwd)
            first = Process(group, argv, self._environment(home), cwd, (uid, gid), streams, first=not self.spec.init)
            first.on_exit = self._exited
            self.group, self.first = group, first
            self.runs += 1
            run = self.runs
            before = self.state
            self.state = evolve(before, status=Status.RUNNING, pid=first.pid, exit_code=0, oom_killed=False, error="",
                                reason="", started_at=time.time(), health=self._first_health())
            try:
                start(first, argv)
            except (StartFailed, OSError):
                self.state = before
                raise
        except StartFailed as error:
            for stream in streams:
                if stream is not None:
                    stream.close()
            self._changed(status=Status.CREATED if self.state.status is Status.CREATED else Status.EXITED, pid=0,
                          exit_code=error.exit_code, error=str(error))
            raise self._start_error(error, argv[0]) from error
        self.lock.notify_all()
        self.emit(self, "start", {})
        check = self._check()
        if check is not None:
            threading.Thread(target=self._watch_health, args=(check, run), daemon=True, name="memory-health").start()

    def _start_error(self, error: StartFailed, program: str) -> StartFailed:
        text = f'exec: "{program}": {error.strerror} (container {self.name})'
        return type(error)(error.errno, text, program)

    def open_stdin(self) -> None:
        """Have a pipe for its stdin, before it starts."""
        with self.lock:
            if self.stdin_write < 0:
                self.stdin_read, self.stdin_write = os.pipe()

    stdin_read = -1

    def close_stdin(self) -> None:
        """Close the pipe that holds its stdin open."""
        with self.lock:
            if self.stdin_write >= 0:
                os.close(self.stdin_write)
                self.stdin_write = -1

    def _make_directories(self, path: str) -> None:
        made = ""
        for part in [p for p in path.split("/") if p]:
            made += f"/{part}"
            parts, node = self.tree.resolve(made)
            if node is None:
                self.tree.put(parts, directory())

    def _exited(self, process: Process) -> None:
        group = process.group
        group.kill_all()
        others = [*group.processes.values()]
        for other in others:
            other.done.wait(5.0)
        with self.lock:
            if process is not self.first:
                return
            self.close_stdin()
            code = process.exit_code or 0
            ran = time.time() - self.state.started_at
            again = not self.stopping and not self.removed and self._restarts(code)
            self.delay = _FIRST_RESTART if ran > _GOOD_RUN else self.delay
            health = self.state.health
            self.state = evolve(self.state, status=Status.RESTARTING if again else Status.EXITED, pid=0, exit_code=code,
                                finished_at=time.time(), health=health)
            self.lock.notify_all()
        self.emit(self, "die", {"exitCode": str(code)})
        with self.log_lock:
            self.log_lock.notify_all()
        if again:
            threading.Thread(target=self._restart, daemon=True, name="memory-restart").start()
        elif self.spec.auto_remove:
            self.remove_self(self)

    def _restarts(self, code: int) -> bool:
        policy = self.spec.restart
        if policy.name == "on-failure":
            return code != 0 and (not policy.retries or self.state.restart_count < policy.retries)
        return policy.name in ("always", "unless-stopped")

    def _restart(self) -> None:
        with self.lock:
            end = time.monotonic() + self.delay
            self.delay = min(self.delay * 2, _LAST_RESTART)
            while not self.stopping and not self.removed and time.monotonic() < end:
                self.lock.wait(max(0.0, end - time.monotonic()))
            if self.stopping or self.removed:
                self._changed(status=Status.EXITED)
                return
            self.state = evolve(self.state, restart_count=self.state.restart_count + 1)
            try:
                self._begin(Stdio())
            except (StartFailed, InvalidSpec):
                self._changed(status=Status.EXITED)

    # -- signals -----------------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal to its first process. Raises `InvalidState` if it doesn't run."""
        with self.lock:
            if self.state.status not in RUNNING or self.first is None:
                raise InvalidState(f"container {self.id[:12]} is not running")
            first = self.first
            if number == signal.SIGKILL:
                self.stopping = True
        self.emit(self, "kill", {"signal": str(number)})
        first.deliver(number)

    def stop(self, timeout: float | None, number: int | None) -> None:
        """Stop it; see the contract."""
        with self.lock:
            self.stopping = True
            self.lock.notify_all()
            running = self.state.status in RUNNING
            paused = self.state.status is Status.PAUSED
        if running:
            if paused:
                self.pause(False)
            text = self.spec.stop_signal or self.image.config.stop_signal or "TERM"
            seconds = timeout if timeout is not None else self.spec.stop_timeout if self.spec.stop_timeout is not None else 10.0
            try:
                self.signal(parse_signal(text) if number is None else number)
                if self.wait(None if seconds < 0 else seconds, "not-running") is None:
                    self.signal(signal.SIGKILL)
            except InvalidState:
                pass
        self.wait(None, "not-running")
        if running:
            self.emit(self, "stop", {})

    def kill_now(self) -> None:
        """End it, whatever it does, and wait until it has."""
        with self.lock:
            self.stopping = True
            self.lock.notify_all()
            first = self.first if self.state.status in RUNNING else None
        if first is not None:
            first.deliver(signal.SIGKILL)
        self.wait(None, "not-running")

    def pause(self, paused: bool) -> None:
        """Freeze or thaw it. Raises `InvalidState`."""
        with self.lock:
            if self.state.status not in RUNNING or self.group is None:
                raise InvalidState(f"container {self.id[:12]} is not running")
            if (self.state.status is Status.PAUSED) == paused:
                raise InvalidState(f"container {self.id[:12]} is {'already' if paused else 'not'} paused")
            self.group.set_paused(paused)
            self._changed(status=Status.PAUSED if paused else Status.RUNNING)
        self.emit(self, "pause" if paused else "unpause", {})

    def wait(self, timeout: float | None, condition: str) -> ContainerState | None:
        """Wait; see the contract."""
        end = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            runs = self.runs + (self.state.status not in RUNNING)
            while True:
                state = self.state
                if self.removed:
                    return state
                if condition == "not-running" and state.status not in (*RUNNING, Status.RESTARTING):
                    return state
                if condition == "next-exit" and self.runs >= runs and state.status not in RUNNING and self.runs:
                    return state
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self.lock.wait(left)

    # -- exec --------------------------------------------------------------------------------------------------------

    def exec(self, spec: ExecSpec, stdio: Stdio) -> MemoryExec:
        """Run a command in it. Raises `InvalidState`, `StartFailed`."""
        with self.lock:
            if self.state.status is Status.PAUSED:
                raise InvalidState(f"container {self.id[:12]} is paused, unpause the container before exec")
            if self.state.status is not Status.RUNNING or self.group is None:
                raise InvalidState(f"container {self.id[:12]} is not running")
            group = self.group
        uid, gid, home = self._user(spec.user if spec.user is not None else self.spec.user or self.image.config.user)
        cwd = spec.workdir or self.spec.workdir or self.image.config.workdir or "/"
        try:
            exists = self.tree.get(cwd).is_dir
        except OSError:
            exists = False
        if not exists:
            raise CommandNotFound(errno.ENOENT, "the working directory does not exist", cwd)
        environment = {**self._environment(home), **dict(spec.environment)}
        streams: tuple[Descriptor | None, Sink, Sink] = (
            Descriptor(os.dup(stdio.stdin)) if stdio.stdin >= 0 else None,
            Descriptor(os.dup(stdio.stdout)) if stdio.stdout >= 0 else Null(),
            Descriptor(os.dup(stdio.stderr)) if stdio.stderr >= 0 else Null(),
        )
        process = Process(group, [*spec.command], environment, cwd, (uid, gid), streams)
        handle = MemoryExec(process, spec.kill_on_close)
        try:
            start(process, [*spec.command])
        except (CommandNotFound, CommandNotExecutable) as error:
            handle.close()
            for stream in streams:
                if stream is not None:
                    stream.close()
            if error.errno == errno.ESRCH:
                raise InvalidState(f"container {self.id[:12]} is not running") from error
            raise self._start_error(error, spec.command[0]) from error
        self.emit(self, f"exec_start: {' '.join(spec.command)}", {})
        return handle

    # -- health ------------------------------------------------------------------------------------------------------

    def _check(self) -> HealthCheck | None:
        check = self.spec.healthcheck or self.image.config.healthcheck
        return None if check is None or check.test[:1] in ((), ("NONE",)) else check

    def _first_health(self) -> Health | None:
        return None if self._check() is None else Health(status="starting")

    def _watch_health(self, check: HealthCheck, run: int) -> None:
        began = time.monotonic()
        while True:
            starting = time.monotonic() - began < check.start_period
            unknown = self.state.health is None or self.state.health.status == "starting"
            pause = check.start_interval if starting and unknown else check.interval
            with self.lock:
                end = time.monotonic() + pause
                while self.runs == run and self.state.status in RUNNING and time.monotonic() < end:
                    self.lock.wait(max(0.0, end - time.monotonic()))
                if self.runs != run or self.state.status not in RUNNING:
                    return
                if self.state.status is Status.PAUSED:
                    continue
            try:
                result = self._ask(check)
            except InvalidState:
                return
            self._judge(check, result, time.monotonic() - began < check.start_period, run)

    def _ask(self, check: HealthCheck) -> HealthResult:
        kind, *words = check.test
        command = ["/bin/sh", "-c", words[0]] if kind == "CMD-SHELL" else words if kind == "CMD" else [*check.test]
        reader, writer = os.pipe()
        began = time.time()
        try:
            try:
                process = self.exec(ExecSpec(command=command), Stdio(stdout=writer, stderr=writer))
            except StartFailed as error:
                return HealthResult(start=began, end=time.time(), exit_code=-1, output=str(error))
            finally:
                os.close(writer)
            code = process.wait(check.timeout)
            if code is None:
                process.kill()
                process.wait(None)
                return HealthResult(start=began, end=time.time(), exit_code=-1,
                                    output=f"Health check exceeded timeout ({check.timeout:g}s)")
            output = b""
            while len(output) < 4096 and select.select([reader], [], [], 0)[0]:
                piece = os.read(reader, 4096)
                if not piece:
                    break
                output += piece
            return HealthResult(start=began, end=time.time(), exit_code=code, output=output.decode("utf-8", "replace"))
        finally:
            os.close(reader)

    def _judge(self, check: HealthCheck, result: HealthResult, starting: bool, run: int) -> None:
        with self.lock:
            if self.runs != run or self.state.status not in RUNNING:
                return
            health = self.state.health or Health(status="starting")
            before = health.status
            streak = 0 if result.exit_code == 0 else health.failing_streak + (not (starting and before == "starting"))
            status = "healthy" if result.exit_code == 0 else "unhealthy" if streak >= check.retries else before
            self._changed(health=Health(status=status, failing_streak=streak, log=(*health.log, result)[-5:]))
        if status != before:
            self.emit(self, f"health_status: {status}", {})


class MemoryExec:
    """A running exec, by the contract's `Process`."""

    terminal = -1

    def __init__(self, process: Process, kill_on_close: bool) -> None:
        self.pid = process.pid
        self._process = process
        self._kill_on_close = kill_on_close
        self._read, self._write = os.pipe()
        self._lock = threading.Lock()
        process.on_exit = self._ended

    def _ended(self, process: Process) -> None:
        with self._lock:
            if self._write >= 0:
                os.close(self._write)
                self._write = -1

    def fileno(self) -> int:
        """A descriptor that is readable once it has ended."""
        return self._read

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code, or None."""
        return self._process.exit_code if self._process.done.wait(timeout) else None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.deliver(number)

    def kill(self) -> None:
        """Kill it and all that descends from it."""
        for process in self._process.descendants():
            process.deliver(signal.SIGKILL)

    def close(self) -> None:
        """Release it."""
        if self._kill_on_close:
            self.kill()
        with self._lock:
            for fd in (self._read, self._write):
                if fd >= 0:
                    os.close(fd)
            self._read = self._write = -1
