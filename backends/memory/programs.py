"""The built-in programs of the memory backend, as busybox's applets behave."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from collections.abc import Iterator

from pycontainers.backend import FileOp
from pycontainers.backends.memory.process import Descriptor
from pycontainers.backends.memory.process import Process
from pycontainers.backends.memory.process import find_program
from pycontainers.backends.memory.shell import Shell
from pycontainers.errors import CommandNotFound
from pycontainers.errors import InvalidSpec
from pycontainers.spec import parse_signal


def start(process: Process, argv: list[str]) -> Process:
    """Start a program in a new process. Raises `CommandNotFound`, `CommandNotExecutable`."""
    name, argv = find_program(process.group.tree, argv, process.environment.get("PATH", ""), process.cwd)
    program = PROGRAMS.get(name)
    if program is None:
        raise CommandNotFound(2, "applet not found", name)
    process.argv = argv
    process.start(program)
    return process


def _lines(process: Process, data: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in data:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _inputs(process: Process, names: list[str]) -> Iterator[bytes]:
    for name in names or ["-"]:
        if name == "-":
            while piece := process.read():
                yield piece
            continue
        source = Descriptor(process.group.tree.open(process.path(name), os.O_RDONLY))
        try:
            while piece := source.read(process):
                yield piece
        finally:
            source.close()


def _do(process: Process, kind: str, path: str, **more: object) -> None:
    process.group.tree.file(FileOp(kind=kind, path=process.path(path), **more))  # type: ignore[arg-type]


def _options(argv: list[str]) -> tuple[str, list[str]]:
    letters = ""
    rest = argv[1:]
    while rest and rest[0].startswith("-") and len(rest[0]) > 1:
        word = rest.pop(0)
        if word == "--":
            break
        letters += word[1:]
    return letters, rest


def _true(process: Process, argv: list[str]) -> int:
    return 0


def _false(process: Process, argv: list[str]) -> int:
    return 1


def _unescape(text: str) -> str:
    return re.sub(r"\\(n|t|r|e|0[0-7]{0,3}|x[0-9a-fA-F]{1,2}|\\)", lambda m: {
        "n": "\n", "t": "\t", "r": "\r", "e": "\x1b", "\\": "\\"}.get(m[1]) or chr(
        int(m[1][1:], 16) if m[1][0] == "x" else int(m[1], 8)), text)


def _echo(process: Process, argv: list[str]) -> int:
    words = argv[1:]
    newline, escapes = "\n", False
    while words and re.fullmatch(r"-[neE]+", words[0]):
        if "n" in words[0]:
            newline = ""
        escapes = "e" in words.pop(0)
    text = " ".join(words)
    process.write((_unescape(text) if escapes else text) + newline)
    return 0


_CONVERSION = re.compile(r"%(?:%|[-0 ]?\d*[sdxo])")


def _printf(process: Process, argv: list[str]) -> int:
    pattern, values = _unescape(argv[1]), argv[2:]
    while True:
        before = len(values)
        process.write(_CONVERSION.sub(lambda match: _converted(match[0], values), pattern))
        if not values or len(values) == before:
            return 0


def _converted(conversion: str, values: list[str]) -> str:
    if conversion == "%%":
        return "%"
    value = values.pop(0) if values else ""
    return conversion % (value if conversion.endswith("s") else int(value or "0"))


def _cat(process: Process, argv: list[str]) -> int:
    code = 0
    for name in _options(argv)[1] or ["-"]:
        try:
            for piece in _inputs(process, [name]):
                process.write(piece)
        except OSError as error:
            process.error(f"cat: can't open '{name}': {error.strerror}\n")
            code = 1
    return code


def _sleep(process: Process, argv: list[str]) -> int:
    if len(argv) < 2:
        process.error("sleep: missing operand\n")
        return 1
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    for word in argv[1:]:
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+|infinity|inf)([smhd]?)", word)
        if match is None:
            process.error(f"sleep: invalid number '{word}'\n")
            return 1
        process.sleep(float(match[1]) * units[match[2] or "s"])
    return 0


def _env(process: Process, argv: list[str]) -> int:
    words = argv[1:]
    while words and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        process.environment[name] = value
    if not words:
        for name, value in process.environment.items():
            process.write(f"{name}={value}\n")
        return 0
    return process.wait(start(process.child(words), words)) or 0


def _pwd(process: Process, argv: list[str]) -> int:
    process.write(process.cwd + "\n")
    return 0


def _name(process: Process, file: str, number: int) -> str:
    try:
        text = process.group.tree.get(file).content.read().decode()  # type: ignore[union-attr]
    except (OSError, AttributeError):
        return ""
    return next((line.split(":")[0] for line in text.splitlines() if line.split(":")[2:3] == [str(number)]), "")


def _id(process: Process, argv: list[str]) -> int:
    letters = _options(argv)[0]
    if letters:
        number, file = (process.gid, "/etc/group") if "g" in letters else (process.uid, "/etc/passwd")
        process.write(f"{_name(process, file, number) or number if 'n' in letters else number}\n")
        return 0
    user, group = _name(process, "/etc/passwd", process.uid), _name(process, "/etc/group", process.gid)
    process.write(f"uid={process.uid}{f'({user})' if user else ''} gid={process.gid}{f'({group})' if group else ''}\n")
    return 0


def _whoami(process: Process, argv: list[str]) -> int:
    process.write(f"{_name(process, '/etc/passwd', process.uid) or process.uid}\n")
    return 0


def _hostname(process: Process, argv: list[str]) -> int:
    process.write(process.group.hostname + "\n")
    return 0


def _ls(process: Process, argv: list[str]) -> int:
    letters, names = _options(argv)
    code = 0
    for name in names or ["."]:
        try:
            node = process.group.tree.get(process.path(name))
        except OSError as error:
            process.error(f"ls: {name}: {error.strerror}\n")
            code = 1
            continue
        entries = node.children if node.is_dir and "d" not in letters else {name: node}
        for child, one in sorted(entries.items()):
            if child.startswith(".") and "a" not in letters and node.is_dir:
                continue
            long = f"{stat.filemode(one.mode)} {one.uid} {one.gid} {one.size} " if "l" in letters else ""
            process.write(f"{long}{child}\n")
    return code


def _each(name: str, call: Callable[[Process, str, str], None]) -> Callable[[Process, list[str]], int]:
    """A program that does one thing to each of its operands."""

    def program(process: Process, argv: list[str]) -> int:
        letters, names = _options(argv)
        code = 0
        for one in names:
            try:
                call(process, letters, one)
            except OSError as error:
                process.error(f"{name}: can't handle '{one}': {error.strerror}\n")
                code = 1
        return code

    return program


def _mkdir(process: Process, letters: str, name: str) -> None:
    if "p" not in letters:
        _do(process, "mkdir", name, mode=0o777)
        return
    path = process.path(name)
    for end in [i for i, char in enumerate(path) if char == "/" and i] + [len(path)]:
        try:
            _do(process, "mkdir", path[:end], mode=0o777)
        except FileExistsError:
            continue


def _rm(process: Process, letters: str, name: str) -> None:
    tree = process.group.tree
    with tree.lock:
        try:
            parts, node = tree.resolve(process.path(name), follow=False)
        except FileNotFoundError:
            parts, node = (), None
        if node is None:
            if "f" in letters:
                return
            raise FileNotFoundError(2, os.strerror(2), name)
        if node.is_dir and "r" not in letters and "R" not in letters:
            raise IsADirectoryError(21, os.strerror(21), name)
        tree.put(parts, None)


def _touch(process: Process, letters: str, name: str) -> None:
    os.close(process.group.tree.open(process.path(name), os.O_WRONLY | os.O_CREAT))


def _rmdir(process: Process, letters: str, name: str) -> None:
    _do(process, "rmdir", name)


def _two(kind: str, *, swapped: bool = False) -> Callable[[Process, list[str]], int]:
    def program(process: Process, argv: list[str]) -> int:
        first, second = _options(argv)[1]
        if kind == "symlink":
            _do(process, kind, second, target=first)
        else:
            _do(process, kind, first, target=process.path(second))
        return 0

    return program


def _cp(process: Process, argv: list[str]) -> int:
    source, target = _options(argv)[1]
    data = b"".join(_inputs(process, [source]))
    sink = Descriptor(process.group.tree.open(process.path(target), os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
    try:
        sink.write(process, data)
    finally:
        sink.close()
    return 0


def _chmod(process: Process, argv: list[str]) -> int:
    mode, *names = argv[1:]
    for name in names:
        _do(process, "chmod", name, mode=int(mode, 8))
    return 0


def _readlink(process: Process, argv: list[str]) -> int:
    letters, names = _options(argv)
    tree = process.group.tree
    if "f" in letters:
        process.write("/" + "/".join(tree.resolve(process.path(names[0]))[0]) + "\n")
        return 0
    node = tree.get(process.path(names[0]), follow=False)
    process.write(f"{node.link}\n" if node.is_link else "")
    return int(not node.is_link)


def _kill(process: Process, argv: list[str]) -> int:
    words = argv[1:]
    number = 15
    if words and words[0] == "-s":
        number, words = parse_signal(words[1]), words[2:]
    elif words and words[0].startswith("-"):
        try:
            number, words = parse_signal(words[0][1:]), words[1:]
        except InvalidSpec:
            process.error(f"kill: bad signal name '{words[0][1:]}'\n")
            return 1
    code = 0
    for word in words:
        with process.group.lock:
            target = next((p for p in process.group.processes.values() if str(p.pid) == word or (word == "1" and p.first)),
                          None)
        if target is None:
            process.error(f"kill: can't kill pid {word}: No such process\n")
            code = 1
        elif number != 9 or not target.first:  # Nothing inside can kill process 1.
            target.deliver(number)
    return code


def _head(process: Process, argv: list[str]) -> int:
    match = re.search(r"-n? ?(\d+)", " ".join(argv[1:]))
    names = [word for word in argv[1:] if not word.startswith("-") and not word.isdigit()]
    left = int(match[1]) if match else 10
    for line in _lines(process, _inputs(process, names)):
        if left <= 0:
            break
        process.write(line)
        left -= 1
    return 0


def _wc(process: Process, argv: list[str]) -> int:
    letters, names = _options(argv)
    data = b"".join(_inputs(process, names))
    counts = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data)}
    process.write(" ".join(str(counts[letter]) for letter in letters or "lwc") + "".join(f" {n}" for n in names) + "\n")
    return 0


def _seq(process: Process, argv: list[str]) -> int:
    numbers = [int(word) for word in argv[1:]]
    first, step, last = ([1, 1] + numbers if len(numbers) == 1 else [numbers[0], 1, numbers[1]] if len(numbers) == 2
                         else numbers)
    batch = []
    for number in range(first, last + (1 if step > 0 else -1), step):
        batch.append(f"{number}\n")
        if len(batch) == 1000:
            process.write("".join(batch))
            batch = []
    process.write("".join(batch))
    return 0


def _yes(process: Process, argv: list[str]) -> int:
    line = (" ".join(argv[1:]) or "y") + "\n"
    while True:
        process.write(line * 64)


def _grep(process: Process, argv: list[str]) -> int:
    letters, names = _options(argv)
    pattern = re.compile(names[0].encode())
    found = False
    for line in _lines(process, _inputs(process, names[1:])):
        if (pattern.search(line) is not None) != ("v" in letters):
            found = True
            if "q" not in letters:
                process.write(line)
    return int(not found)


def _test(process: Process, argv: list[str]) -> int:
    words = argv[1:]
    if argv[0].endswith("["):
        words = words[:-1]
    if words[:1] == ["!"]:
        return int(_test(process, ["test", *words[1:]]) == 0)
    if len(words) == 3 and words[1] in _COMPARE:
        return int(not _COMPARE[words[1]](words[0], words[2]))
    if len(words) == 2:
        return int(not _is(process, words[0], words[1]))
    return int(not (words and words[0]))


_COMPARE: dict[str, Callable[[str, str], bool]] = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "-eq": lambda a, b: int(a) == int(b),
    "-ne": lambda a, b: int(a) != int(b), "-lt": lambda a, b: int(a) < int(b), "-le": lambda a, b: int(a) <= int(b),
    "-gt": lambda a, b: int(a) > int(b), "-ge": lambda a, b: int(a) >= int(b),
}


def _is(process: Process, test: str, name: str) -> bool:
    if test in ("-n", "-z"):
        return bool(name) == (test == "-n")
    try:
        node = process.group.tree.get(process.path(name), follow=test not in ("-L", "-h"))
    except OSError:
        return False
    return {"-d": node.is_dir, "-f": stat.S_ISREG(node.mode), "-L": node.is_link, "-h": node.is_link,
            "-s": node.size > 0, "-x": bool(node.mode & 0o111)}.get(test, True)


def _date(process: Process, argv: list[str]) -> int:
    pattern = next((word[1:] for word in argv[1:] if word.startswith("+")), "%a %b %e %H:%M:%S UTC %Y")
    process.write(time.strftime(pattern.replace("%s", str(int(time.time()))), time.gmtime()) + "\n")
    return 0


def _nc(process: Process, argv: list[str]) -> int:
    """Listen on a port, and copy the first connection to stdout and stdin to it; with `-e PROGRAM`, serve each one."""
    port = int(argv[argv.index("-p") + 1])
    command = argv[argv.index("-e") + 1 :] if "-e" in argv else None
    waiting: list[int] = []
    group = process.group

    def take(fd: int) -> None:
        with group.lock:
            waiting.append(fd)
            group.lock.notify_all()

    with group.lock:
        if port in group.listeners:
            process.error("nc: bind: Address already in use\n")
            return 1
        group.listeners[port] = take
    try:
        while True:
            with group.lock:
                process.check()
                while not waiting:
                    group.lock.wait()
                    process.check()
                connection = Descriptor(waiting.pop(0))
            try:
                if command is None:
                    while piece := process.read():
                        connection.write(process, piece)
                    while piece := connection.read(process):
                        process.write(piece)
                    return 0
                child = process.child(command, (connection, connection, process.stderr))
                start(child, command)
            finally:
                connection.close()
    finally:
        with group.lock:
            del group.listeners[port]


def _sh(process: Process, argv: list[str]) -> int:
    words = argv[1:]
    script: str | None = None
    flags = ""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        flags += word[1:]
        if "c" in word:
            script = words.pop(0)
            break
    name = argv[0]
    if script is None and words:
        name = words.pop(0)
        script = b"".join(_inputs(process, [name])).decode("utf-8", "surrogateescape")
    elif script is not None and words:
        name = words.pop(0)
    if script is None:
        script = b"".join(_inputs(process, [])).decode("utf-8", "surrogateescape")
    shell = Shell(process, name, words, start)
    shell.errexit = "e" in flags
    return shell.main(script)


PROGRAMS: dict[str, Callable[[Process, list[str]], int]] = {
    "true": _true, "false": _false, "echo": _echo, "printf": _printf, "cat": _cat, "sleep": _sleep, "env": _env,
    "pwd": _pwd, "id": _id, "whoami": _whoami, "hostname": _hostname, "ls": _ls, "mkdir": _each("mkdir", _mkdir),
    "rm": _each("rm", _rm), "rmdir": _each("rmdir", _rmdir), "touch": _each("touch", _touch), "mv": _two("rename"),
    "ln": _two("symlink"), "cp": _cp, "chmod": _chmod, "readlink": _readlink, "kill": _kill, "head": _head, "wc": _wc,
    "seq": _seq, "yes": _yes, "grep": _grep, "test": _test, "[": _test, "date": _date, "nc": _nc, "sh": _sh,
    "ash": _sh,
}
