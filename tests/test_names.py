"""Image references mean what Docker makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainers.errors import InvalidReference
from pycontainers.oci.names import Reference
from pycontainers.oci.names import familiar
from pycontainers.oci.names import normalise
from pycontainers.oci.names import parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(("text", "canonical", "short"), [
    ("debian", "docker.io/library/debian:latest", "debian:latest"),
    ("debian:12", "docker.io/library/debian:12", "debian:12"),
    ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
    ("user/app", "docker.io/user/app:latest", "user/app:latest"),
    ("a/b/c:1", "docker.io/a/b/c:1", "a/b/c:1"),
    ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
    ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
    ("docker.io/library/debian:12", "docker.io/library/debian:12", "debian:12"),
    ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
    ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
    ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
    ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1"),
    ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
    ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
    ("quay.io/org/app", "quay.io/org/app:latest", "quay.io/org/app:latest"),
    (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
    (f"h:1/a:t@{DIGEST}", f"h:1/a:t@{DIGEST}", f"h:1/a:t@{DIGEST}"),
    ("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest", "a__b/c---d.e_f:latest"),
    ("debian:V1.2_x-3", "docker.io/library/debian:V1.2_x-3", "debian:V1.2_x-3"),
])
def test_normalises_as_docker_does(text: str, canonical: str, short: str) -> None:
    """Domain, `library/` and `latest` are filled in, and left out again in the familiar form."""
    assert normalise(text) == canonical
    assert familiar(canonical) == short


def test_nothing_is_made_up_when_only_parsing() -> None:
    """Neither tag nor digest appears unless written, so that `docker pull -a` and digests can be told apart."""
    assert parse_reference("debian") == Reference("docker.io", "library/debian")
    assert parse_reference("debian").with_default_tag().tag == "latest"
    by_digest = Reference("docker.io", "library/debian", "", DIGEST)
    assert parse_reference(f"debian@{DIGEST}").with_default_tag() == by_digest


@pytest.mark.parametrize(("text", "reason"), [
    ("", "name is missing"),
    (":12", "name is missing"),
    (f"@{DIGEST}", "name is missing"),
    ("Debian", r"repository name \(library/Debian\) must be lowercase"),
    ("host.io/App", "must be lowercase"),
    ("debian:", "the tag ''"),
    ("debian:-x", "the tag '-x'"),
    ("debian:" + "x" * 129, "must be 1 to 128"),
    ("debian:a b", "the tag 'a b'"),
    ("debian:é", "the tag 'é'"),
    ("a//b", "each part of 'a//b'"),
    ("a/b/", "each part of"),
    ("/a", "each part of"),
    ("-a", "each part of"),
    ("a..b/c", "no host name"),
    ("a___b", "each part of"),
    ("a b", "each part of"),
    ("debian\n", "each part of"),
    ("ä", "each part of"),
    ("host:port/a", "no host name"),
    ("-h.io/a", "no host name"),
    ("debian@sha256:12", "no digest"),
    ("debian@sha256:" + "a" * 40, "64 lowercase"),
    ("debian@sha256:" + "A" * 64, "64 lowercase"),
    ("debian@" + DIGEST + "@" + DIGEST, "no digest"),
    ("debian@sha256:../../" + "a" * 64, "no digest"),
    ("h.io/" + "a" * 251, "more than 255"),
    ("a" * 64, "64-byte hexadecimal"),
    ("https://debian", "no host name"),
])
def test_says_what_is_wrong(text: str, reason: str) -> None:
    """A reference that can't be parsed is refused with its fault named."""
    with pytest.raises(InvalidReference, match=reason):
        parse_reference(text)


def test_familiar_never_changes_the_meaning() -> None:
    """A Docker Hub name that would read as a host or an id keeps its prefix."""
    assert familiar("docker.io/foo.bar/x") == "docker.io/foo.bar/x"
    assert familiar("docker.io/localhost/x") == "docker.io/localhost/x"
    assert familiar("library/" + "a" * 64) == "library/" + "a" * 64


components = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
domains = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?(\.[a-z0-9]{1,5})?(:[0-9]{1,4})?", fullmatch=True)
names = st.lists(components, min_size=1, max_size=4)
tags = st.one_of(st.just(""), st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}", fullmatch=True))


@given(st.one_of(st.just(""), domains), names, tags, st.sampled_from(["", DIGEST]))
def test_every_form_of_a_reference_means_the_same(domain: str, parts: list[str], tag: str, digest: str) -> None:
    """Text, canonical text and familiar text parse to the same reference, and normalising twice changes nothing."""
    text = "/".join(([domain] if domain else []) + parts) + (tag and f":{tag}") + (digest and f"@{digest}")
    try:
        reference = parse_reference(text)
    except InvalidReference:
        # What Docker's rule takes for a host need not be one, and what it doesn't must be lowercase.
        assert domain or "." in parts[0]
        return
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference
    assert len(reference.familiar) <= len(str(reference))
    assert normalise(normalise(text)) == normalise(text)
    assert (reference.tag, reference.digest) == (tag, digest)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text makes the parser fail otherwise, and what it accepts is plain ASCII of one line."""
    try:
        canonical = str(parse_reference(text))
    except InvalidReference:
        return
    assert canonical.isascii()
    assert not set(canonical) & set(" \n\t\0/\\") - {"/"}
    assert parse_reference(canonical) == parse_reference(text)
