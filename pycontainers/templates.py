"""Go's text/template, as far as Docker's `--format` uses it.

Values are what JSON gives (dict, list, str, numbers, bool, None), and `Fields`, whose members are computed when asked
for. Functions are text/template's and Docker's (`json upper lower title join split truncate pad println`).
"""

from __future__ import annotations

import json as _json
import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from pycontainers.errors import InvalidSpec

Function = Callable[..., object]


class TemplateError(InvalidSpec):
    """Raised when a template can't be parsed (`parsing` is True) or executed; the text is Go's."""

    def __init__(self, message: str, *, parsing: bool = False) -> None:
        """Keep the message, and in which step it went wrong."""
        super().__init__(message)
        self.parsing = parsing


class OpenMap(dict[str, Any]):
    """A mapping of any keys (labels, networks): a missing one is no value rather than an error."""


class Fields:
    """One row of a listing: named fields, each a function of the subject (and of the template's arguments)."""

    def __init__(self, subject: object, table: Mapping[str, Callable[..., object]], kind: str = "Context") -> None:
        """Show `subject` through `table`; `kind` names the row in error messages."""
        self.subject = subject
        self.table = table
        self.kind = kind

    def as_dict(self) -> dict[str, object]:
        """Return every field that takes no argument, sorted by name, as `{{json .}}` shows it."""
        return {n: f(self.subject) for n, f in sorted(self.table.items()) if f.__code__.co_argcount == 1}


# -- values ------------------------------------------------------------------------------------------------------------


def encode(value: object, *, indent: int | None = None, escape: bool = False) -> str:
    """Return JSON as Go writes it: compact (or indented), Unicode kept, `<>&` escaped where Go's default does."""
    if isinstance(value, Fields):
        value, escape = value.as_dict(), True
    text = _json.dumps(value, ensure_ascii=False, indent=indent, default=_plain,
                       separators=(",", ": ") if indent else (",", ":"))
    if escape:
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def _plain(value: object) -> object:
    if isinstance(value, Fields):
        return value.as_dict()
    return str(value)


def show(value: object) -> str:
    """Return the text of a value as Go's `%v` prints it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Fields):
        value = value.as_dict()
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{show(k)}:{show(v)}" for k, v in sorted(value.items())) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(show, value)) + "]"
    return str(value)


def _float(value: float) -> str:
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    return re.sub(r"e([+-])(\d)$", r"e\g<1>0\2", text)


def _kind(value: object) -> str:
    for types, name in ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (type(None), "nil"),
                        (Mapping, "map[string]interface {}"), ((list, tuple), "[]interface {}")):
        if isinstance(value, types):
            return name
    return f"*formatter.{value.kind}" if isinstance(value, Fields) else type(value).__name__


# -- functions ---------------------------------------------------------------------------------------------------------


class _Fault(Exception):
    """What a function objects to; the executor adds where."""


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Fault(f"cannot index slice/array with type {_kind(value)}")
    return value


def _index(value: Any, *keys: Any) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            if not isinstance(key, str):
                raise _Fault(f"value has type {_kind(key)}; should be string")
            value = value.get(key, "" if isinstance(value, OpenMap) else None)
        elif isinstance(value, (list, tuple, str)):
            if not 0 <= _number(key) < len(value):
                raise _Fault(f"index out of range: {key}")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        elif value is None:
            raise _Fault("index of untyped nil")
        else:
            raise _Fault(f"can't index item of type {_kind(value)}")
    return value


def _slice(value: Any, *bounds: Any) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise _Fault(f"can't slice item of type {_kind(value)}")
    for bound in bounds:
        if not 0 <= _number(bound) <= len(value):
            raise _Fault(f"index out of range: {bound}")
    start, end = (*bounds, 0, len(value))[:2] if len(bounds) > 1 else ((bounds or (0,))[0], len(value))
    if start > end:
        raise _Fault(f"invalid slice index: {start} > {end}")
    return value[start:end]


def _len(value: Any) -> int:
    if value is None:
        raise _Fault("len of nil pointer")
    if not isinstance(value, (str, list, tuple, Mapping)):
        raise _Fault(f"len of type {_kind(value)}")
    return len(value.encode() if isinstance(value, str) else value)


def _class(value: object) -> str:
    kind = _kind(value)
    return kind if kind in ("bool", "int", "float64", "string") else "nil" if value is None else ""


def _equal(first: object, *others: object) -> bool:
    if not others:
        raise _Fault("missing argument for comparison")
    for other in others:
        if not _class(first) or not _class(other):
            raise _Fault(f"non-comparable type {show(first)}: {_kind(first)}")
        if _class(first) != _class(other):
            if None in (first, other):
                continue
            raise _Fault("incompatible types for comparison")
        if first == other:
            return True
    return False


def _not_equal(first: object, second: object) -> bool:
    return not _equal(first, second)


def _less(first: Any, second: Any) -> bool:
    if not _class(first) or isinstance(first, bool) or first is None:
        raise _Fault("invalid type for comparison")
    if _class(first) != _class(second):
        raise _Fault("incompatible types for comparison")
    return bool(first < second)


def _print(*values: object) -> str:
    text = ""
    for i, value in enumerate(values):
        apart = i and not isinstance(value, str) and not isinstance(values[i - 1], str)
        text += (" " if apart else "") + show(value)
    return text


def quote(text: str) -> str:
    """Return a text in double quotes as Go's `%q` writes it."""
    return _json.dumps(text, ensure_ascii=False)


_VERB = re.compile(r"%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+))?([a-zA-Z%])")


def _printf(pattern: str, *values: Any) -> str:
    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, width, precision, verb = match.groups()
        if verb == "%":
            return "%"
        width, precision = (str(rest.pop(0)) if w == "*" and rest else w for w in (width, precision))
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        limit = f".{precision}" if precision else ""
        fill = "-" if "-" in flags else ""
        whole = isinstance(value, int) and not isinstance(value, bool)
        if verb in "sv" and not (verb == "s" and isinstance(value, (bool, int, float))):
            return f"%{fill}{width or ''}{limit if verb == 's' else ''}s" % show(value)
        if verb == "q" and isinstance(value, str):
            return f"%{fill}{width or ''}s" % quote(value)
        if verb == "t" and isinstance(value, bool):
            return f"%{fill}{width or ''}s" % show(value)
        if verb in "dxXoc" and whole:
            return str(f"%{flags}{width or ''}{verb}" % value)
        if verb == "b" and whole:
            return f"{value:b}".rjust(int(width or 0), "0" if "0" in flags else " ")
        if verb in "xX" and isinstance(value, str):
            digits = value.encode().hex()
            return digits.upper() if verb == "X" else digits
        if verb in "feEgG" and isinstance(value, float):
            return f"%{flags}{width or ''}{limit}{verb}" % value
        if verb == "T":
            return _kind(value)
        return f"%!{verb}({_kind(value)}={show(value)})"

    text = _VERB.sub(one, pattern)
    return text + (f"%!(EXTRA {', '.join(f'{_kind(v)}={show(v)}' for v in rest)})" if rest else "")


def _html(*values: object) -> str:
    text = _print(*values)
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(plain, entity)
    return text


def _js(*values: object) -> str:
    text = _print(*values)
    for plain, escaped in (("\\", "\\\\"), ("'", "\\'"), ('"', '\\"'), ("<", "\\u003C"), (">", "\\u003E"),
                           ("&", "\\u0026"), ("=", "\\u003D")):
        text = text.replace(plain, escaped)
    return text


def _urlquery(*values: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values))


def _title(text: str) -> str:
    return re.sub(r"(?<![\w'])\w", lambda m: m[0].upper(), text)


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else ""


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _call(function: object, *_arguments: object) -> object:
    raise _Fault(f"non-function {show(function)} of type {_kind(function)}")


#: Name: function, and the kinds of its arguments (`...` repeats the last).
_FUNCTIONS: dict[str, tuple[Function, tuple[str, ...]]] = {
    "json": (encode, ("any",)),
    "upper": (str.upper, ("string",)),
    "lower": (str.lower, ("string",)),
    "title": (_title, ("string",)),
    "join": (lambda items, separator: separator.join(map(show, items)), ("[]string", "string")),
    "split": (lambda text, separator: text.split(separator) if separator else list(text), ("string", "string")),
    "truncate": (_truncate, ("string", "int")),
    "pad": (_pad, ("string", "int", "int")),
    "println": (lambda *values: " ".join(map(show, values)) + "\n", ("any", "...")),
    "print": (_print, ("any", "...")),
    "printf": (_printf, ("string", "any", "...")),
    "index": (_index, ("any", "any", "...")),
    "slice": (_slice, ("any", "any", "...")),
    "len": (_len, ("any",)),
    "not": (lambda value: not value, ("any",)),
    "eq": (_equal, ("any", "any", "...")),
    "ne": (_not_equal, ("any", "any")),
    "lt": (_less, ("any", "any")),
    "le": (lambda a, b: _less(a, b) or _equal(a, b), ("any", "any")),
    "gt": (lambda a, b: not (_less(a, b) or _equal(a, b)), ("any", "any")),
    "ge": (lambda a, b: not _less(a, b), ("any", "any")),
    "html": (_html, ("any", "...")),
    "js": (_js, ("any", "...")),
    "urlquery": (_urlquery, ("any", "...")),
    "call": (_call, ("any", "any", "...")),
    "and": (_print, ("any", "any", "...")),
    "or": (_print, ("any", "any", "...")),
}


# -- tree --------------------------------------------------------------------------------------------------------------


class Node(NamedTuple):
    """One node of a parsed template: its kind, its place in the text, its source, and its parts."""

    kind: str
    at: int
    source: str
    value: Any = None
    #: Field names after the operand.
    names: tuple[str, ...] = ()
    parts: tuple[Any, ...] = ()


class Pipe(NamedTuple):
    """A pipeline: variables that it declares or sets, and the commands, each the last argument of the next."""

    at: int
    source: str
    variables: tuple[str, ...]
    assign: bool
    commands: tuple[tuple[Node, ...], ...]


class Token(NamedTuple):
    """One lexical item inside an action."""

    kind: str
    text: str
    at: int


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)|(?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`)|(?P<char>'(?:\\.|[^'\\])')"""
    r"""|(?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?))|(?P<field>\.[^\W\d]\w*)"""
    r"""|(?P<dot>\.)|(?P<variable>\$\w*)|(?P<word>[^\W\d]\w*)|(?P<sign>:=|=|\||\(|\)|,)""")


def _broken(message: str, text: str, at: int) -> TemplateError:
    return TemplateError(f"template: :{text.count(chr(10), 0, at) + 1}: {message}", parsing=True)


def _lex(text: str) -> Iterator[tuple[int, str | list[Token]]]:
    """Yield the template's plain texts and its actions' tokens, with white space trimmed as `{{-` and `-}}` ask."""
    at, trim = 0, False
    while True:
        start = text.find("{{", at)
        plain = text[at:] if start < 0 else text[at:start]
        left = start >= 0 and re.match(r"\{\{-[ \t\r\n]", text[start:]) is not None
        plain = plain.lstrip(" \t\r\n") if trim else plain
        if plain := plain.rstrip(" \t\r\n") if left else plain:
            yield at, plain
        if start < 0:
            return
        at = start + (3 if left else 2)
        tokens: list[Token] = []
        spaced = False
        comment = re.match(r"\s*/\*.*?\*/(\s*-)?\}\}", text[at:], re.DOTALL)
        if comment:
            at, trim = at + comment.end(), bool(comment[1])
            continue
        while True:
            if text.startswith("}}", at) or (spaced and text.startswith("-}}", at)):
                trim = text[at] == "-"
                at += 3 if trim else 2
                break
            match = _TOKEN.match(text, at)
            if not match:
                if at >= len(text):
                    raise _broken("unclosed action", text, start)
                if text[at] in "\"'`":
                    kind = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}[text[at]]
                    raise _broken(f"unterminated {kind}", text, at)
                raise _broken(f"unrecognized character in action: U+{ord(text[at]):04X} {text[at]!r}", text, at)
            kind = match.lastgroup or ""
            spaced = kind == "space"
            tokens.append(Token(kind, match[0], at))
            at = match.end()
        yield start, tokens


def _unquote(token: str) -> str:
    if token[0] == "`":
        return token[1:-1]
    text = re.sub(r"\\x([0-9a-fA-F]{2})", r"\\u00\1", token).replace("\\a", "\\u0007").replace("\\v", "\\u000b")
    return str(_json.loads(text.replace("\t", "\\t")))


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.items = list(_lex(text))
        self.i = 0
        self.tokens: list[Token] = []
        self.t = 0
        self.variables = ["$"]
        self.defined: dict[str, tuple[Node, ...]] = {}
        self.loops = 0

    def fail(self, message: str) -> TemplateError:
        at = self.tokens[0].at if self.tokens else 0
        return _broken(message, self.text, at)

    # -- nodes --

    def body(self, ends: tuple[str, ...]) -> tuple[tuple[Node, ...], str]:
        nodes: list[Node] = []
        while self.i < len(self.items):
            at, item = self.items[self.i]
            self.i += 1
            if isinstance(item, str):
                nodes.append(Node("text", at, item, item))
                continue
            self.tokens = [t for t in item if t.kind != "space"]
            self.spaces = {t.at + len(t.text) for t in item if t.kind == "space"}
            self.t = 0
            if not self.tokens:
                raise _broken("missing value for command", self.text, at)
            word = self.tokens[0].text if self.tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                if word not in ends:
                    raise self.fail("unexpected {{" + word + "}}")
                return tuple(nodes), word
            nodes.extend(self.action(at, word))
        if ends:
            raise self.fail("unexpected EOF")
        return tuple(nodes), ""

    def action(self, at: int, word: str) -> list[Node]:
        if word in ("if", "with", "range"):
            self.t = 1
            return [self.branch(at, word)]
        if word in ("define", "block"):
            return self.define(at, word)
        if word == "template":
            name = self.tokens[1] if len(self.tokens) > 1 else Token("", "", at)
            if name.kind != "string":
                raise self.fail("unexpected " + (repr(name.text) if name.text else "\"}}\"") + " in template clause")
            self.t = 2
            pipe = self.pipeline("template") if len(self.tokens) > 2 else None
            where = self.tokens[1].at
            return [Node("template", where, "{{template " + name.text + (f" {pipe.source}" if pipe else "") + "}}",
                         _unquote(name.text), parts=(pipe,))]
        if word in ("break", "continue"):
            if not self.loops:
                raise self.fail("{{" + word + "}} outside {{range}}")
            return [Node(word, at, word)]
        return [Node("action", at, "", self.pipeline("command"))]

    def branch(self, at: int, word: str) -> Node:
        scope = len(self.variables)
        pipe = self.pipeline(word)
        self.loops += word == "range"
        nodes, end = self.body(("end", "else"))
        self.loops -= word == "range"
        other: tuple[Node, ...] = ()
        if end == "else":
            following = self.tokens[1].text if len(self.tokens) > 1 else ""
            if following in ("if", "with") and following == word:
                self.t = 2
                other = (self.branch(at, word),)
            else:
                other, _ = self.body(("end",))
        del self.variables[scope:]
        return Node(word, at, "", pipe, parts=(nodes, other))

    def define(self, at: int, word: str) -> list[Node]:
        if len(self.tokens) < 2 or self.tokens[1].kind != "string":
            raise self.fail(f"missing name in {word} clause")
        name = self.tokens[1]
        self.t = 2
        pipe = self.pipeline("block clause") if word == "block" else None
        variables, self.variables = self.variables, ["$"]
        self.defined[_unquote(name.text)], _ = self.body(("end",))
        self.variables = variables
        if word == "define":
            return []
        return [Node("template", at, "{{template " + name.text + "}}", _unquote(name.text), parts=(pipe,))]

    # -- pipelines --

    def peek(self) -> Token | None:
        return self.tokens[self.t] if self.t < len(self.tokens) else None

    def source(self, first: int) -> str:
        last = self.tokens[self.t - 1]
        return self.text[self.tokens[first].at:last.at + len(last.text)]

    def pipeline(self, context: str) -> Pipe:
        first = self.t
        names: list[str] = []
        assign = False
        texts = [t.text for t in self.tokens[self.t:self.t + 4]]
        token = self.peek()
        if token and token.kind == "variable":
            if texts[1:2] in ([":="], ["="]):
                names, assign, self.t = [token.text], texts[1] == "=", self.t + 2
            elif context == "range" and texts[1:2] == [","] and texts[3:4] in ([":="], ["="]):
                names, assign, self.t = [token.text, texts[2]], texts[3] == "=", self.t + 4
        if assign:
            for name in names:
                self.known(name)
        commands: list[tuple[Node, ...]] = []
        while True:
            command = self.command()
            if not command:
                if not commands:
                    raise self.fail(f"missing value for {context}")
                raise self.fail("missing value for command")
            if commands and command[0].kind in ("number", "string", "bool", "nil", "dot"):
                place = len(commands) + 1
                raise self.fail(f"non executable command in pipeline stage {place}")
            commands.append(command)
            token = self.peek()
            if token is None or token.text == ")":
                break
            self.t += 1
        if not assign:
            self.variables.extend(names)
        return Pipe(self.tokens[first].at, self.source(first), tuple(names), assign, tuple(commands))

    def known(self, name: str) -> None:
        if name not in self.variables:
            raise self.fail(f'undefined variable "{name}"')

    def command(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while (token := self.peek()) and token.text not in ("|", ")"):
            if nodes and token.at not in self.spaces and token.kind != "sign":
                raise self.fail(f"unexpected {quote(token.text)} in operand")
            nodes.append(self.operand())
        return tuple(nodes)

    def operand(self) -> Node:
        token = self.tokens[self.t]
        first = self.t
        self.t += 1
        kind = token.kind
        value: Any = None
        names: list[str] = []
        at = token.at
        if token.text == "(":
            kind, value = "pipe", self.pipeline("parenthesized pipeline")
            if self.peek() is None:
                raise self.fail("unclosed left paren")
            self.t += 1
        elif kind == "field":
            names.append(token.text[1:])
        elif kind == "variable":
            self.known(token.text)
            value = token.text
        elif kind == "word":
            if token.text in ("true", "false"):
                kind, value = "bool", token.text == "true"
            elif token.text == "nil":
                kind = "nil"
            elif token.text in _FUNCTIONS:
                kind, value = "function", token.text
            else:
                raise self.fail(f'function "{token.text}" not defined')
        elif kind == "string":
            value = _unquote(token.text)
        elif kind == "char":
            kind, value = "number", ord(_unquote('"' + token.text[1:-1] + '"'))
        elif kind == "number":
            plain = token.text.replace("_", "")
            value = int(plain, 0) if re.fullmatch(r"[+-]?(0[xX][\da-fA-F]+|[1-9]\d*|0)", plain) else float(plain)
        elif kind != "dot":
            raise self.fail(f"unexpected {quote(token.text)} in operand")
        chained = False
        while (more := self.peek()) and more.kind == "field" and more.at not in self.spaces:
            at = at if chained else more.at
            chained = True
            names.append(more.text[1:])
            self.t += 1
        return Node(kind, at, self.source(first), value, tuple(names))


# -- execution ---------------------------------------------------------------------------------------------------------

_NOTHING = object()


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _Run:
    def __init__(self, template: Template, data: object, strict: bool, header: bool) -> None:
        self.template = template
        self.strict = strict
        self.header = header
        self.variables: list[tuple[str, object]] = [("$", data)]
        self.out: list[str] = []

    def error(self, node: Node | Pipe, message: str, source: str | None = None) -> TemplateError:
        before = self.template.text[:node.at]
        line, column = before.count("\n") + 1, len(before.rpartition("\n")[2].encode())
        context = node.source if source is None else source
        context = f"{context[:20]}..." if len(context) > 20 else context
        return TemplateError(f'template: :{line}:{column}: executing "" at <{context}>: {message}')

    def walk(self, nodes: tuple[Node, ...], dot: object) -> None:
        for node in nodes:
            if node.kind == "text":
                self.out.append(node.value)
            elif node.kind == "action":
                value = self.pipeline(node.value, dot)
                if not node.value.variables:
                    self.out.append("<no value>" if value in (None, _NOTHING) else show(value))
            elif node.kind in ("if", "with"):
                mark = len(self.variables)
                value = self.pipeline(node.value, dot)
                true = value is not _NOTHING and bool(value)
                self.walk(node.parts[0 if true else 1], value if true and node.kind == "with" else dot)
                del self.variables[mark:]
            elif node.kind == "range":
                self.range(node, dot)
            elif node.kind == "template":
                self.call(node, dot)
            else:
                raise _Break if node.kind == "break" else _Continue

    def call(self, node: Node, dot: object) -> None:
        nodes = self.template.defined.get(node.value)
        if nodes is None:
            raise self.error(node, f'template "{node.value}" not defined')
        data = self.pipeline(node.parts[0], dot) if node.parts[0] else None
        variables, self.variables = self.variables, [("$", data)]
        self.walk(nodes, data)
        self.variables = variables

    def range(self, node: Node, dot: object) -> None:
        mark = len(self.variables)
        pipe: Pipe = node.value
        value = self.evaluate(pipe, dot)
        pairs: list[tuple[object, object]]
        if isinstance(value, Mapping):
            pairs = sorted(value.items())
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(i, i) for i in range(value)]
        elif value in (None, _NOTHING):
            pairs = []
        else:
            raise self.error(pipe, f"range can't iterate over {show(value)}")
        if not pairs:
            self.walk(node.parts[1], dot)
        for key, item in pairs:
            self.bind(pipe, (item,) if len(pipe.variables) == 1 else (key, item))
            try:
                self.walk(node.parts[0], item)
            except _Continue:
                continue
            except _Break:
                break
            finally:
                del self.variables[mark:]

    def bind(self, pipe: Pipe, values: tuple[object, ...]) -> None:
        for name, value in zip(pipe.variables, values, strict=False):
            if pipe.assign:
                place = max(i for i, (known, _) in enumerate(self.variables) if known == name)
                self.variables[place] = (name, value)
            else:
                self.variables.append((name, value))

    def pipeline(self, pipe: Pipe, dot: object) -> object:
        value = self.evaluate(pipe, dot)
        self.bind(pipe, (value,))
        return value

    def evaluate(self, pipe: Pipe, dot: object) -> object:
        value: object = _NOTHING
        for i, command in enumerate(pipe.commands):
            value = self.command(command, dot, value, i > 0)
        return value

    def command(self, command: tuple[Node, ...], dot: object, final: object, piped: bool) -> object:
        head, *rest = command
        last = [final] if piped else []
        if head.kind == "function":
            source = " ".join(n.source for n in command)
            value = self.function(head, rest, dot, last, source)
            return self.fields(head, value, head.names, dot)
        if head.kind in ("field", "variable", "pipe", "dot") and head.names:
            base = self.base(head, dot)
            return self.fields(head, base, head.names, dot, [self.value(n, dot) for n in rest] + last, bool(rest or last))
        if rest or piped:
            raise self.error(head, f"can't give argument to non-function {head.source}")
        if head.kind == "nil":
            raise self.error(head, "nil is not a command")
        return self.value(head, dot)

    def base(self, node: Node, dot: object) -> object:
        if node.kind == "variable":
            return next(value for name, value in reversed(self.variables) if name == node.value)
        if node.kind == "pipe":
            return self.evaluate(node.value, dot)
        if node.kind in ("field", "dot"):
            return dot
        return node.value

    def value(self, node: Node, dot: object) -> object:
        if node.kind == "function":
            return self.fields(node, self.function(node, [], dot, [], node.source), node.names, dot)
        return self.fields(node, self.base(node, dot), node.names, dot)

    def fields(self, node: Node, value: object, names: tuple[str, ...], dot: object,
               arguments: list[object] | None = None, given: bool = False) -> object:
        for i, name in enumerate(names):
            final = i == len(names) - 1
            value = self.field(node, value, name, arguments or [] if final else [], given and final)
        return value

    def field(self, node: Node, value: object, name: str, arguments: list[object], given: bool) -> object:
        if isinstance(value, Fields):
            function = value.table.get(name)
            if function is None:
                raise self.error(node, f"can't evaluate field {name} in type {_kind(value)}")
            wanted = function.__code__.co_argcount - 1
            if wanted != len(arguments):
                raise self.error(node, f"wrong number of args for {name}: want {wanted} got {len(arguments)}")
            return function(value.subject, *arguments)
        if isinstance(value, Mapping):
            if given:
                raise self.error(node, f"{name} is not a method but has arguments")
            if name in value:
                return value[name]
            if isinstance(value, OpenMap) or not self.strict:
                return _NOTHING
            for key in value:
                if key.lower() == name.lower():
                    return value[key]
            raise self.error(node, f'map has no entry for key "{name}"')
        if value is None or value is _NOTHING:
            if self.header or not self.strict:
                return _NOTHING
            raise self.error(node, f"nil data; no entry for key \"{name}\"")
        raise self.error(node, f"can't evaluate field {name} in type {_kind(value)}")

    def function(self, node: Node, rest: list[Node], dot: object, last: list[object], source: str) -> object:
        name = node.value
        function, kinds = _FUNCTIONS[name]
        many = kinds[-1] == "..."
        fixed = kinds[:-2] if many else kinds
        count = len(rest) + len(last)
        if count < len(fixed) or (not many and count > len(fixed)):
            want = f"at least {len(fixed)}" if many else str(len(fixed))
            raise self.error(node, f"wrong number of args for {name}: want {want} got {count}", source=name)
        if name in ("and", "or"):
            value: object = None
            for i in range(count):
                value = self.value(rest[i], dot) if i < len(rest) else last[0]
                if bool(value is not _NOTHING and value) == (name == "or"):
                    break
            return value
        values = []
        for i in range(count):
            kind = kinds[i] if i < len(fixed) else "any"
            argument = rest[i] if i < len(rest) else None
            value = last[0] if argument is None else self.value(argument, dot)
            values.append(self.checked(value, kind, argument, node))
        if self.header:
            return values[0]
        try:
            return function(*values)
        except _Fault as fault:
            raise self.error(node, f"error calling {name}: {fault}", source=source) from None

    def checked(self, value: object, kind: str, node: Node | None, call: Node) -> object:
        value = None if value is _NOTHING else value
        good = {"any": True, "string": isinstance(value, str), "int": isinstance(value, int),
                "[]string": isinstance(value, (list, tuple)) or value is None}[kind]
        if self.header or good:
            return [] if kind == "[]string" and value is None else value
        if node is not None and node.kind in ("number", "string", "bool") and not node.names:
            raise self.error(node, f"expected {'string' if kind == 'string' else 'integer'}; found {node.source}")
        raise self.error(node or call, f"wrong type for value; expected {kind}; got {_kind(value)}")


class Template:
    """A parsed template. Raises `TemplateError` when it can't be parsed."""

    def __init__(self, text: str) -> None:
        """Parse `text`."""
        self.text = text
        parser = _Parser(text)
        self.nodes, _ = parser.body(())
        self.defined = parser.defined

    def render(self, data: object, *, strict: bool = True, header: bool = False) -> str:
        """Return the text for `data`.

        `strict` makes a missing key of a mapping an error. `header` is how Docker heads a table: every function returns
        its first argument. Raises `TemplateError`.
        """
        run = _Run(self, data, strict, header)
        try:
            run.walk(self.nodes, data)
        except RecursionError:
            raise TemplateError("template: :1: exceeded maximum template depth") from None
        return "".join(run.out)
