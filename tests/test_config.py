"""Image configs go to OCI's and Docker's JSON and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainers.errors import InvalidSpec
from pycontainers.oci.config import History
from pycontainers.oci.config import ImageDocument
from pycontainers.oci.config import decode_config
from pycontainers.oci.config import decode_document
from pycontainers.oci.config import decode_time
from pycontainers.oci.config import encode_config
from pycontainers.oci.config import encode_document
from pycontainers.oci.config import encode_time
from pycontainers.spec import HealthCheck
from pycontainers.spec import ImageConfig

FULL = ImageConfig(
    command=("sh", "-c", "echo é"), entrypoint=("/init",), environment={"PATH": "/bin", "EMPTY": ""},
    labels={"a": "b"}, workdir="/srv", user="1:2", exposed_ports=("80/tcp",), volumes=("/data",), stop_signal="SIGQUIT",
    healthcheck=HealthCheck(test=("CMD-SHELL", "true"), interval=5, timeout=0.5, start_period=1, start_interval=2, retries=7),
    shell=("/bin/bash", "-c"), author="me", architecture="arm64", os="linux", variant="v8")


def test_dockers_keys() -> None:
    """The `config` object is what `docker inspect` shows, times in nanoseconds."""
    assert encode_config(FULL) == {
        "Cmd": ["sh", "-c", "echo é"], "Entrypoint": ["/init"], "Env": ["PATH=/bin", "EMPTY="], "Labels": {"a": "b"},
        "WorkingDir": "/srv", "User": "1:2", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
        "StopSignal": "SIGQUIT", "Shell": ["/bin/bash", "-c"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000, "Timeout": 500_000_000,
                        "StartPeriod": 1_000_000_000, "StartInterval": 2_000_000_000, "Retries": 7}}
    assert encode_config(ImageConfig()) == {}
    assert encode_config(ImageConfig(command=(), entrypoint=())) == {"Cmd": [], "Entrypoint": []}


def test_dockers_own_output_is_understood() -> None:
    """A config as Docker prints it, nulls and zeros included."""
    shown = json.loads((Path(__file__).parent / "data" / "docker_image.json").read_text())
    config = (shown[0] if isinstance(shown, list) else shown)["Config"]
    assert decode_config(config).environment
    nothing = dict.fromkeys(["Cmd", "Entrypoint", "Env", "Labels", "WorkingDir", "User", "ExposedPorts", "Volumes",
                             "StopSignal", "Healthcheck", "Shell"])
    assert decode_config(nothing) == ImageConfig()
    assert decode_config({"Healthcheck": {"Test": ["CMD", "x"], "Interval": 0}}).healthcheck == HealthCheck(test=("CMD", "x"))
    assert decode_config({"Healthcheck": {}}).healthcheck is None


def test_a_document_comes_back_the_same() -> None:
    """With history, layers, platform and time; and always as the same bytes."""
    document = ImageDocument(
        config=FULL, diff_ids=("sha256:" + "a" * 64,), created=1700000000.25, host="machine",
        history=(History(created=1.5, created_by="COPY", comment="c", author="me"), History(created=2.0, empty=True)))
    blob = encode_document(document)
    assert decode_document(blob) == document
    assert encode_document(decode_document(blob)) == blob
    assert json.loads(blob)["history"][1] == {"created": "1970-01-01T00:00:02.000000Z", "empty_layer": True}


@given(st.text(st.characters(exclude_characters="\0"), max_size=20), st.binary(max_size=8))
def test_any_text_survives(text: str, raw: bytes) -> None:
    """Bytes that are no UTF-8, as an environment may hold them, too."""
    value = text + raw.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    document = ImageDocument(config=ImageConfig(command=(value,)))
    try:
        blob = encode_document(document)
    except InvalidSpec:
        assert any(0xD800 <= ord(c) < 0xDC80 or 0xDCFF < ord(c) <= 0xDFFF for c in value)
        return
    decoded = decode_document(blob).config.command
    assert decoded is not None
    assert decoded[0].encode("utf-8", "surrogateescape") == value.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(("blob", "reason"), [
    (b"{", "no JSON"),
    (b"[" * 100000, "no JSON"),
    (b"\xff", "no JSON"),
    (b"[]", "must be a JSON object"),
    (b'{"config": []}', None),
    (b'{"config": [1]}', "config must be a JSON object"),
    (b'{"config": {"Cmd": "sh"}}', "Cmd must be a JSON array"),
    (b'{"config": {"Cmd": [1]}}', "Cmd must be a JSON string"),
    (b'{"config": {"User": "a\\u0000b"}}', "User holds a NUL"),
    (b'{"config": {"Labels": {"a": 1}}}', "Labels must be a JSON string"),
    (b'{"config": {"Volumes": ["/x"]}}', "Volumes must be a JSON object"),
    (b'{"config": {"Healthcheck": {"Test": ["NONE"], "Retries": -1}}}', "Retries must be a number"),
    (b'{"rootfs": {"diff_ids": [null]}}', "diff_ids must be"),
    (b'{"history": [1]}', "history must be a JSON object"),
    (b'{"created": "yesterday"}', "'yesterday' is no time"),
    (b'{"created": "2020-01-01T00:00:00"}', "is no time"),
])
def test_a_hostile_document_is_refused(blob: bytes, reason: str | None) -> None:
    """With the key that is wrong."""
    if reason is None:
        assert decode_document(blob) == ImageDocument()
        return
    with pytest.raises(InvalidSpec, match=reason):
        decode_document(blob)


def test_times() -> None:
    """RFC 3339 with nanoseconds, zones, and Go's zero time."""
    assert decode_time("2023-11-14T22:13:20.123456789Z") == pytest.approx(1700000000.123456789)
    assert decode_time("2023-11-14T23:13:20+01:00") == decode_time("2023-11-14t22:13:20z") == 1700000000.0
    assert decode_time("2023-11-14T17:13:20.5-05:00") == 1700000000.5
    assert decode_time("") == decode_time("0001-01-01T00:00:00Z") == 0.0
    assert decode_time(encode_time(1234567890.654321)) == 1234567890.654321
