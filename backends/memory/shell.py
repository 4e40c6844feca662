"""The shell of the memory backend: the part of POSIX sh that tests of containers write."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from collections.abc import Iterator
from functools import partial
from typing import cast

from attrs import frozen

from pycontainers.backends.memory.process import Descriptor
from pycontainers.backends.memory.process import Exit
from pycontainers.backends.memory.process import Killed
from pycontainers.backends.memory.process import Null
from pycontainers.backends.memory.process import Process
from pycontainers.backends.memory.process import Sink
from pycontainers.errors import StartFailed
from pycontainers.spec import parse_signal

#: A word: pieces of text, each with True if it was quoted (nothing in it is split).
Word = tuple[tuple[str, str], ...]

_OPERATORS = ("&&", "||", ";;", ">>", ">&", "<&", ";", "&", "|", "(", ")", "<", ">", "\n")
_RESERVED = {"if", "then", "elif", "else", "fi", "while", "until", "do", "done", "for", "{", "}", "!"}


class Syntax(Exception):
    """A script that can't be parsed."""


@frozen
class Token:
    """An operator (`word` is None) or a word."""

    text: str
    word: Word | None = None


@frozen
class Simple:
    """A command with its assignments and redirections."""

    words: tuple[Word, ...]
    assignments: tuple[tuple[str, Word], ...]
    redirections: tuple[tuple[int, str, Word], ...]


@frozen
class Compound:
    """if, while, until, for, ( ), { } or a pipeline, and-or list or sequence: `kind` says which, `parts` holds its parts."""

    kind: str
    parts: tuple[object, ...]
    redirections: tuple[tuple[int, str, Word], ...] = ()


def tokens(text: str) -> Iterator[Token]:
    """Yield the tokens of a script."""
    at = 0
    while at < len(text):
        char = text[at]
        if char in " \t" or text.startswith("\\\n", at):
            at += 1 if char != "\\" else 2
        elif char == "#":
            at = (text.find("\n", at) + 1 or len(text) + 1) - 1
        else:
            operator = next((o for o in _OPERATORS if text.startswith(o, at)), None)
            if operator:
                yield Token(operator)
                at += len(operator)
            else:
                word, at = _word(text, at)
                if text[at : at + 1] in ("<", ">") and "".join(t for _, t in word).isdigit() and len(word) == 1:
                    yield Token("IO" + word[0][1])
                else:
                    yield Token("".join(t for kind, t in word if kind == "raw"), word)


def _word(text: str, at: int) -> tuple[Word, int]:
    """Pieces: `raw` (unquoted text, to expand and split), `double` (to expand), `single` (as it is)."""
    pieces: list[tuple[str, str]] = []

    def add(kind: str, piece: str) -> None:
        pieces.append((kind, piece))

    while at < len(text):
        char = text[at]
        if char in " \t\n;&|<>()":
            break
        if char == "'":
            end = text.find("'", at + 1)
            if end < 0:
                raise Syntax("unterminated quoted string")
            add("single", text[at + 1 : end])
            at = end + 1
        elif char == '"':
            end = at + 1
            while end < len(text) and text[end] != '"':
                end = _dollar(text, end) if text[end] in "$`" else end + (2 if text[end] == "\\" else 1)
            if end >= len(text):
                raise Syntax("unterminated quoted string")
            add("double", text[at + 1 : end])
            at = end + 1
        elif char == "\\":
            add("single", text[at + 1 : at + 2])
            at += 2
        elif char in "$`":
            end = _dollar(text, at)
            add("raw", text[at:end])
            at = end
        else:
            end = at
            while end < len(text) and text[end] not in " \t\n;&|<>()'\"\\$`":
                end += 1
            add("raw", text[at:end])
            at = end
    return tuple(pieces), at


def _dollar(text: str, at: int) -> int:
    """Return where the expansion that begins at `at` ends."""
    if text[at] == "`":
        end = text.find("`", at + 1)
        if end < 0:
            raise Syntax("unterminated backquote")
        return end + 1
    for opening, closing in (("$((", "))"), ("$(", ")"), ("${", "}")):
        if text.startswith(opening, at):
            depth = 1
            end = at + len(opening)
            while end < len(text):
                if text.startswith(closing, end) and depth == 1:
                    return end + len(closing)
                if text[end] == opening[-1]:
                    depth += 1
                elif text[end] == closing[-1]:
                    depth -= 1
                elif text[end] == "'" and opening != "${":
                    end = text.find("'", end + 1)
                    if end < 0:
                        break
                end += 1
            raise Syntax(f"missing {closing!r}")
    match = re.compile(r"\$(\w+|[?$!#@*-])").match(text, at)
    if match is None:
        return at + 1
    return match.end() if not match[1][0].isdigit() else at + 2


class Parser:
    """Makes a tree of a script. Raises `Syntax`."""

    def __init__(self, text: str) -> None:
        self.tokens = [*tokens(text)]
        self.at = 0

    def peek(self) -> str | None:
        """The next token's text if it is an operator or an unquoted word."""
        return self.tokens[self.at].text if self.at < len(self.tokens) else None

    def next(self) -> Token:
        """Take a token."""
        if self.at >= len(self.tokens):
            raise Syntax("unexpected end of file")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, *texts: str) -> str:
        """Take one of these tokens."""
        token = self.next()
        if token.text not in texts:
            raise Syntax(f"unexpected {token.text!r} (expecting {texts[0]!r})")
        return token.text

    def script(self) -> Compound:
        """The whole script."""
        made = self.sequence(())
        if self.at < len(self.tokens):
            raise Syntax(f"unexpected {self.tokens[self.at].text!r}")
        return made

    def sequence(self, ends: tuple[str, ...]) -> Compound:
        """Commands until a token of `ends`; each part is (command, in background)."""
        parts: list[object] = []
        while True:
            while self.peek() in (";", "\n"):
                self.at += 1
            if self.peek() is None or (self.peek() in ends) or self.peek() == ")":
                return Compound("sequence", tuple(parts))
            command = self.and_or()
            background = self.peek() == "&"
            if background:
                self.at += 1
            parts.append((command, background))
            if not background and self.peek() not in (";", "\n", None, ")", *ends):
                raise Syntax(f"unexpected {self.peek()!r}")

    def and_or(self) -> Compound:
        """Pipelines joined by && and ||."""
        parts: list[object] = [self.pipeline()]
        while self.peek() in ("&&", "||"):
            parts.append(self.next().text)
            while self.peek() == "\n":
                self.at += 1
            parts.append(self.pipeline())
        return Compound("and-or", tuple(parts))

    def pipeline(self) -> Compound:
        """Commands joined by |."""
        negated = self.peek() == "!"
        if negated:
            self.at += 1
        parts = [self.command()]
        while self.peek() == "|":
            self.at += 1
            while self.peek() == "\n":
                self.at += 1
            parts.append(self.command())
        return Compound("not" if negated else "pipeline", tuple(parts))

    def command(self) -> Simple | Compound:
        """A simple or compound command."""
        kind = self.peek()
        if kind not in ("(", "{", "if", "while", "until", "for"):
            return self.simple()
        self.at += 1
        parts: list[object]
        if kind == "(":
            parts = [self.sequence((")",))]
            self.expect(")")
        elif kind == "{":
            parts = [self.sequence(("}",))]
            self.expect("}")
        elif kind == "if":
            parts = [self.sequence(("then",))]
            self.expect("then")
            while True:
                parts.append(self.sequence(("elif", "else", "fi")))
                end = self.expect("elif", "else", "fi")
                if end == "fi":
                    break
                parts.append(self.sequence(("then",)) if end == "elif" else None)
                if end == "elif":
                    self.expect("then")
        elif kind == "for":
            name = self.next().text
            words: list[Word] = []
            if self.peek() == "in":
                self.at += 1
                while self.peek() not in (";", "\n"):
                    token = self.next()
                    words.append(token.word or (("raw", token.text),))
            while self.peek() in (";", "\n"):
                self.at += 1
            self.expect("do")
            parts = [name, tuple(words), self.sequence(("done",))]
            self.expect("done")
        else:
            parts = [self.sequence(("do",))]
            self.expect("do")
            parts.append(self.sequence(("done",)))
            self.expect("done")
        redirections = []
        while (found := self.redirection()) is not None:
            redirections.append(found)
        return Compound(kind, tuple(parts), tuple(redirections))

    def redirection(self) -> tuple[int, str, Word] | None:
        """A redirection, if one comes."""
        text = self.peek() or ""
        number = -1
        if text.startswith("IO"):
            number = int(text[2:])
            self.at += 1
            text = self.peek() or ""
        elif text not in ("<", ">", ">>", ">&", "<&"):
            return None
        self.at += 1
        token = self.next()
        if token.word is None:
            raise Syntax(f"unexpected {token.text!r}")
        return number if number >= 0 else int(not text.startswith("<")), text, token.word

    def simple(self) -> Simple:
        """Assignments, words and redirections."""
        words: list[Word] = []
        assignments: list[tuple[str, Word]] = []
        redirections: list[tuple[int, str, Word]] = []
        while self.at < len(self.tokens):
            found = self.redirection()
            if found is not None:
                redirections.append(found)
                continue
            token = self.tokens[self.at]
            if token.word is None or (not words and not assignments and token.text in _RESERVED and len(token.word) == 1):
                break
            self.at += 1
            first = token.word[0] if token.word else ("single", "")
            match = re.match(r"(\w+)=", first[1]) if first[0] == "raw" and not words else None
            if match:
                assignments.append((match[1], (("raw", first[1][match.end() :]), *token.word[1:])))
            else:
                words.append(token.word)
        if not words and not assignments and not redirections:
            raise Syntax(f"unexpected {self.peek()!r}")
        return Simple(tuple(words), tuple(assignments), tuple(redirections))


class _Loop(Exception):
    def __init__(self, leave: bool) -> None:
        super().__init__(leave)
        self.leave = leave


class Shell:
    """A shell that runs in a process."""

    def __init__(self, process: Process, name: str, arguments: list[str], run: Callable[[Process, list[str]], Process]) -> None:
        self.process = process
        self.name = name
        self.arguments = arguments
        #: Starts a program as a new process: the table of programs is above this module.
        self.start = run
        self.variables: dict[str, str] = {}
        self.status = 0
        self.background: list[Process] = []
        self.errexit = False
        self.on_exit: str | None = None

    def main(self, script: str) -> int:
        """Run a script to its end and return its exit code."""
        try:
            try:
                self.run(Parser(script).script())
            except Syntax as error:
                self.process.error(f"{self.name}: syntax error: {error}\n")
                self.status = 2
        except Exit as end:
            self.status = end.code
        if self.on_exit is not None:
            script, self.on_exit = self.on_exit, None
            status = self.status
            self.main(script)
            self.status = status
        return self.status

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, node: object) -> int:
        """Run one node of the tree; its exit code is the status."""
        if isinstance(node, Simple):
            self.status = self._simple(node)
        elif isinstance(node, Compound):
            with_streams = self._redirected(node.redirections) if node.redirections else None
            if with_streams is not None:
                with with_streams:
                    self._compound(node)
            else:
                self._compound(node)
        self.process.handle()
        return self.status

    def _compound(self, node: Compound) -> None:
        parts = node.parts
        if node.kind == "sequence":
            for part in parts:
                command, background = cast("tuple[object, bool]", part)
                if background:
                    self.background.append(self._fork(partial(_run, command)))
                    self.status = 0
                else:
                    self.run(command)
        elif node.kind == "and-or":
            self.run(parts[0])
            last = parts[0]
            for operator, command in zip(parts[1::2], parts[2::2], strict=True):
                if (self.status == 0) == (operator == "&&"):
                    self.run(command)
                    last = command
            if self.errexit and self.status and last is parts[-1] and getattr(last, "kind", "") != "not":
                raise Exit(self.status)
        elif node.kind in ("pipeline", "not"):
            self._pipeline(parts)
            if node.kind == "not":
                self.status = int(self.status == 0)
        elif node.kind == "(":
            child = self._fork(partial(_run, parts[0]))
            self.status = self._await(child)
        elif node.kind == "{":
            self.run(parts[0])
        elif node.kind == "if":
            self._if(parts)
        elif node.kind == "for":
            values = [field for word in parts[1] for field in self.expand(word)]  # type: ignore[attr-defined]
            for value in values if parts[1] else self.arguments:
                self.variables[str(parts[0])] = value
                if self._body(parts[2]):
                    break
        else:
            status = 0
            while (self._test(parts[0]) == 0) == (node.kind == "while"):
                if self._body(parts[1]):
                    break
                status = self.status
            self.status = status

    def _test(self, node: object) -> int:
        errexit, self.errexit = self.errexit, False
        try:
            return self.run(node)
        finally:
            self.errexit = errexit

    def _body(self, node: object) -> bool:
        try:
            self.run(node)
        except _Loop as jump:
            return jump.leave
        return False

    def _if(self, parts: tuple[object, ...]) -> None:
        for condition, body in zip(parts[::2], parts[1::2], strict=True):
            if condition is None or self._test(condition) == 0:
                self.run(body)
                return
        self.status = 0

    def _pipeline(self, parts: tuple[object, ...]) -> None:
        if len(parts) == 1:
            self.run(parts[0])
            return
        children = []
        before: Descriptor | None = self.process.stdin
        own: list[Descriptor] = []
        for index, part in enumerate(parts):
            output: Sink = self.process.stdout
            after: Descriptor | None = None
            if index < len(parts) - 1:
                reader, writer = os.pipe()
                after, output = Descriptor(reader), Descriptor(writer)
            streams = (before, output, self.process.stderr)
            children.append(self._fork(partial(_run, part), streams))
            if index < len(parts) - 1:
                output.close()
            for one in own:
                one.close()
            own = [after] if after is not None else []
            before = after
        for child in children:
            self.status = self._await(child)

    def _fork(
        self, run: Callable[[Shell], int], streams: tuple[Descriptor | None, Sink, Sink] | None = None
    ) -> Process:
        child = self.process.child([self.name, *self.arguments], streams)

        def program(process: Process, argv: list[str]) -> int:
            shell = Shell(process, self.name, self.arguments, self.start)
            shell.variables = dict(self.variables)
            shell.status, shell.errexit = self.status, self.errexit
            return run(shell)

        child.start(program)
        return child

    def _await(self, child: Process) -> int:
        code = self.process.wait(child)
        return 0 if code is None else code

    def _simple(self, node: Simple) -> int:
        words = [field for word in node.words for field in self.expand(word)]
        if not words:
            for name, value in node.assignments:
                self._assign(name, self.text(value))
            with self._redirected(node.redirections):
                return self.status if node.assignments and any("$(" in t or "`" in t for _, v in node.assignments
                                                               for _, t in v) else 0
        builtin = getattr(self, f"_do_{_BUILTINS.get(words[0], '')}", None)
        if words[0] == "exec" and len(words) == 1:
            self._redirected(node.redirections).__enter__()
            return 0
        try:
            streams = self._redirected(node.redirections)
        except OSError as error:
            self.process.error(f"{self.name}: can't open {error.filename}: {error.strerror}\n")
            return 1
        with streams:
            if builtin is not None:
                result = builtin(words)
                return int(result)
            environment = {name: self.text(value) for name, value in node.assignments}
            return self._external(words, environment)

    def _external(self, words: list[str], environment: dict[str, str]) -> int:
        child = self.process.child(words)
        child.environment.update(environment)
        try:
            started = self.start(child, words)
        except StartFailed as error:
            child._close()
            what = "not found" if error.exit_code == 127 else "Permission denied"
            self.process.error(f"{self.name}: {words[0]}: {what}\n")
            return error.exit_code
        return self._await(started)

    def _redirected(self, redirections: tuple[tuple[int, str, Word], ...]) -> _Redirected:
        process = self.process
        table: dict[int, object] = {0: process.stdin, 1: process.stdout, 2: process.stderr}
        opened: list[Descriptor] = []
        try:
            for number, kind, word in redirections:
                target = self.text(word)
                if kind in (">&", "<&"):
                    table[number] = table.get(int(target)) if target.isdigit() else None
                elif target == "/dev/null":
                    table[number] = None if kind == "<" else Null()
                else:
                    flags = {"<": os.O_RDONLY, ">": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                             ">>": os.O_WRONLY | os.O_CREAT | os.O_APPEND}[kind]
                    opened.append(Descriptor(process.group.tree.open(process.path(target), flags)))
                    table[number] = opened[-1]
        except OSError as error:
            for one in opened:
                one.close()
            error.filename = error.filename or ""
            raise
        return _Redirected(process, (table[0], table[1], table[2]), opened)

    # -- words -------------------------------------------------------------------------------------------------------

    def _assign(self, name: str, value: str) -> None:
        if name in self.process.environment:
            self.process.environment[name] = value
        else:
            self.variables[name] = value

    def _value(self, name: str) -> str | None:
        if name == "?":
            return str(self.status)
        if name == "$":
            return str(self.process.pid)
        if name == "!":
            return str(self.background[-1].pid) if self.background else ""
        if name == "#":
            return str(len(self.arguments))
        if name in "@*" and name:
            return " ".join(self.arguments)
        if name.isdigit():
            number = int(name)
            return self.name if number == 0 else self.arguments[number - 1] if number <= len(self.arguments) else None
        value = self.variables.get(name)
        return value if value is not None else self.process.environment.get(name)

    def _expansion(self, text: str) -> str:
        if text.startswith("$(("):
            inner = re.sub(r"\$?\b([A-Za-z_]\w*)", lambda m: self._value(m[1]) or "0", text[3:-2])
            if not re.fullmatch(r"[\d\s+*/%()<>=!&|-]*", inner):
                raise Syntax("arithmetic")
            return str(int(eval(inner.replace("/", "//"), {"__builtins__": {}}, {})))
        if text.startswith(("$(", "`")):
            return self._substitute(text[1:-1] if text[0] == "`" else text[2:-1])
        if text.startswith("${"):
            match = re.fullmatch(r"(\w+|[?$!#@*])(?:(:?[-+=])(.*))?", text[2:-1], re.DOTALL)
            if match is None:
                raise Syntax("bad substitution")
            value = self._value(match[1])
            unset = value is None or (value == "" and (match[2] or "").startswith(":"))
            if (match[2] or "").endswith("-") and unset:
                return self._double(match[3])
            if (match[2] or "").endswith("+"):
                return "" if unset else self._double(match[3])
            return value or ""
        return self._value(text[1:]) or "" if len(text) > 1 else text

    def _substitute(self, script: str) -> str:
        reader, writer = os.pipe()
        sink = Descriptor(writer)
        child = self._fork(lambda shell: shell.main(script), (self.process.stdin, sink, self.process.stderr))
        sink.close()
        source = Descriptor(reader)
        data = b""
        try:
            while piece := source.read(self.process):
                data += piece
        finally:
            source.close()
        self.status = self._await(child)
        return data.decode("utf-8", "surrogateescape").rstrip("\n")

    def _double(self, text: str) -> str:
        result = []
        at = 0
        while at < len(text):
            if text[at] == "\\" and text[at + 1 : at + 2] in ("$", "`", '"', "\\", "\n"):
                result.append("" if text[at + 1] == "\n" else text[at + 1])
                at += 2
            elif text[at] in "$`":
                end = _dollar(text, at)
                result.append(self._expansion(text[at:end]))
                at = end
            else:
                result.append(text[at])
                at += 1
        return "".join(result)

    def text(self, word: Word) -> str:
        """Expand a word to one text."""
        return "".join(t if kind == "single" else self._double(t) if kind == "double" else self._raw(t) for kind, t in word)

    def _raw(self, text: str) -> str:
        return self._expansion(text) if text[:1] in ("$", "`") else text

    def expand(self, word: Word) -> list[str]:
        """Expand a word to fields."""
        if word == (("double", "$@"),):
            return list(self.arguments)
        fields: list[str] = []
        current: str | None = None
        for kind, text in word:
            if kind != "raw" or text[:1] not in ("$", "`"):
                current = (current or "") + (text if kind != "double" else self._double(text))
                continue
            value = self._expansion(text)
            pieces = value.split()
            if not pieces:
                continue
            if value[:1].isspace() and current is not None:
                fields.append(current)
                current = None
            current = (current or "") + pieces[0]
            for piece in pieces[1:]:
                fields.append(current)
                current = piece
            if value[-1:].isspace():
                fields.append(current)
                current = None
        if current is not None:
            fields.append(current)
        return fields

    # -- builtins ----------------------------------------------------------------------------------------------------

    def _do_colon(self, words: list[str]) -> int:
        return 0

    def _do_exit(self, words: list[str]) -> int:
        raise Exit(int(words[1]) if len(words) > 1 else self.status)

    def _do_cd(self, words: list[str]) -> int:
        target = words[1] if len(words) > 1 else self.process.environment.get("HOME", "/")
        try:
            parts, node = self.process.group.tree.resolve(self.process.path(target))
        except OSError:
            parts, node = (), None
        if node is None or not node.is_dir:
            self.process.error(f"{self.name}: cd: can't cd to {target}: No such file or directory\n")
            return 1
        self.process.cwd = "/" + "/".join(parts)
        return 0

    def _do_export(self, words: list[str]) -> int:
        for word in words[1:]:
            name, equals, value = word.partition("=")
            self.process.environment[name] = value if equals else self.variables.get(name, "")
        return 0

    def _do_unset(self, words: list[str]) -> int:
        for name in words[1:]:
            self.variables.pop(name, None)
            self.process.environment.pop(name, None)
        return 0

    def _do_set(self, words: list[str]) -> int:
        for word in words[1:]:
            if word.startswith(("-", "+")) and "e" in word[1:]:
                self.errexit = word[0] == "-"
        return 0

    def _do_shift(self, words: list[str]) -> int:
        del self.arguments[: int(words[1]) if len(words) > 1 else 1]
        return 0

    def _do_break(self, words: list[str]) -> int:
        raise _Loop(words[0] == "break")

    def _do_read(self, words: list[str]) -> int:
        line = b""
        while (char := self.process.read(1)) not in (b"", b"\n"):
            line += char
        names = [word for word in words[1:] if not word.startswith("-")] or ["REPLY"]
        values = line.decode("utf-8", "surrogateescape").split(None, len(names) - 1)
        for index, name in enumerate(names):
            self._assign(name, values[index].strip() if index < len(values) else "")
        return int(char == b"" and not line)

    def _do_trap(self, words: list[str]) -> int:
        action, names = (words[1], words[2:]) if len(words) > 2 else ("-", words[1:])
        for name in names:
            if name in ("EXIT", "0"):
                self.on_exit = None if action == "-" else action
                continue
            number = parse_signal(name)
            if action == "-":
                self.process.handlers.pop(number, None)
            elif action == "":
                self.process.handlers[number] = None
            else:
                tree = Parser(action).script()
                self.process.handlers[number] = partial(self._trapped, tree)
        return 0

    def _trapped(self, tree: Compound) -> None:
        status = self.status
        self.run(tree)
        self.status = status

    def _do_wait(self, words: list[str]) -> int:
        wanted = [p for p in self.background if len(words) < 2 or str(p.pid) in words[1:]]
        code = 0
        for child in wanted:
            ended = self.process.wait(child, interruptible=True)
            if ended is None:
                number = self.process.pending[0]
                self.process.handle()
                return 128 + number
            code = ended
        self.background = [p for p in self.background if p not in wanted]
        return code if len(words) > 1 else 0

    def _do_exec(self, words: list[str]) -> int:
        argv = words[1:]
        replaced = self.process.child(argv)
        replaced.pid = self.process.pid
        replaced.first = self.process.first
        try:
            started = self.start(replaced, argv)
        except StartFailed as error:
            self.process.error(f"{self.name}: exec: {argv[0]}: not found\n")
            raise Exit(error.exit_code) from None
        # It is this process from now on: what this one gets, that one gets.
        for number in range(1, 65):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                self.process.handlers[number] = partial(started.deliver, number)
        try:
            while (code := self.process.wait(started, interruptible=True)) is None:
                self.process.handle()
        except Killed as end:
            started.deliver(end.number)
            raise
        raise Exit(code)


_BUILTINS = {
    ":": "colon", "exit": "exit", "cd": "cd", "export": "export", "unset": "unset", "set": "set", "shift": "shift",
    "break": "break", "continue": "break", "read": "read", "trap": "trap", "wait": "wait", "exec": "exec",
}


def _run(node: object, shell: Shell) -> int:
    return shell.run(node)


class _Redirected:
    """A process's streams replaced for a while."""

    def __init__(self, process: Process, streams: tuple[object, object, object], opened: list[Descriptor]) -> None:
        self.process = process
        self.streams = streams
        self.opened = opened
        self.before = (process.stdin, process.stdout, process.stderr)

    def __enter__(self) -> None:
        self.process.stdin, self.process.stdout, self.process.stderr = self.streams  # type: ignore[assignment]

    def __exit__(self, *error: object) -> None:
        self.process.stdin, self.process.stdout, self.process.stderr = self.before
        for one in self.opened:
            one.close()
