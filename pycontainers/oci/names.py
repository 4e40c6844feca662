"""Image references, as Docker normalises them: `debian` is docker.io/library/debian:latest.

The grammar is that of github.com/distribution/reference: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`.
"""

from __future__ import annotations

import re

from attrs import evolve
from attrs import frozen

from pycontainers.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
#: Docker Hub's images that belong to no user are in this namespace.
OFFICIAL = "library"
#: Characters of domain and path together.
MAX_NAME = 255

_PORT = r"(?::[0-9]+)?"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\]){_PORT}")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_ID = re.compile(r"[0-9a-f]{64}")
_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}


@frozen
class Reference:
    """One image's place and version; `str()` is the whole, canonical text. `tag` and `digest` may be empty."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Domain and path: the repository."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        return self.name + self._version

    @property
    def _version(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar_name(self) -> str:
        """The repository's shortest text that still means it (`debian`, `user/app`, `localhost:5000/app`)."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        for short in (self.path.removeprefix(f"{OFFICIAL}/"), self.path):
            if not _ID.fullmatch(short) and _split(short) == (self.domain, self.path):
                return short
        return self.name

    @property
    def familiar(self) -> str:
        """The shortest text that still means this, as Docker shows it (`debian:12`)."""
        return self.familiar_name + self._version

    def with_default_tag(self) -> Reference:
        """Return it with `latest` when it has neither tag nor digest."""
        return self if self.tag or self.digest else evolve(self, tag=DEFAULT_TAG)


def parse_reference(text: str) -> Reference:
    """Return the reference that a text means; neither tag nor digest is made up.

    Raises `InvalidReference`, saying what is wrong.
    """
    if _ID.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    rest, at, digest = text.partition("@")
    if at:
        _check_digest(text, digest)
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    tag = ""
    if colon >= 0:
        rest, tag = rest[:colon], rest[colon + 1:]
        if not _TAG.fullmatch(tag):
            raise InvalidReference(f"invalid reference format: {text!r}: the tag {tag!r} must be 1 to 128 letters, "
                                   "digits, '_', '.' and '-', and begin with none of the last two")
    if not rest:
        raise InvalidReference(f"invalid reference format: {text!r}: the repository's name is missing")
    domain, path = _split(rest)
    if not _DOMAIN.fullmatch(domain):
        raise InvalidReference(f"invalid reference format: {text!r}: {domain!r} is no host name with optional port")
    if not _PATH.fullmatch(path):
        if _PATH.fullmatch(path.lower()):
            raise InvalidReference(f"invalid reference format: repository name ({path}) must be lowercase")
        raise InvalidReference(f"invalid reference format: {text!r}: each part of {path!r} must be lowercase letters "
                               "and digits, with single '.', '_', '__' or any number of '-' between them")
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise InvalidReference(f"invalid reference format: repository name must not be more than {MAX_NAME} "
                               f"characters: {domain}/{path}")
    return Reference(domain, path, tag, digest)


def normalise(text: str) -> str:
    """Return the canonical text of a reference, with `latest` when it has neither tag nor digest.

    Raises `InvalidReference`.
    """
    return str(parse_reference(text).with_default_tag())


def familiar(text: str) -> str:
    """Return the shortest text that means the same reference. Raises `InvalidReference`."""
    return parse_reference(text).familiar


def _split(name: str) -> tuple[str, str]:
    """Part domain and path as Docker does: what has no dot, no port and no capital, and isn't localhost, is no host."""
    first, slash, rest = name.partition("/")
    if not slash or (not set(".:") & set(first) and first != "localhost" and first == first.lower()):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = "docker.io" if first == "index.docker.io" else first, rest
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{OFFICIAL}/{path}"
    return domain, path


def _check_digest(text: str, digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise InvalidReference(f"invalid reference format: {text!r}: {digest!r} is no digest; write ALGORITHM:HEX")
    algorithm, _, digits = digest.partition(":")
    if len(digits) != _DIGITS.get(algorithm, len(digits)) or digits != digits.lower():
        raise InvalidReference(f"invalid reference format: {text!r}: a {algorithm} digest has {_DIGITS.get(algorithm)} "
                               "lowercase hexadecimal digits")
