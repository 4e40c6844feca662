"""Tables, sizes and times as Docker prints them."""

from __future__ import annotations

import time

import pytest

from pycontainers.cli import output
from pycontainers.cli.flags import Failure
from pycontainers.errors import InvalidSpec
from pycontainers.moments import parse_moment


@pytest.mark.parametrize(("size", "digits", "expected"), [
    (0, 3, "0B"), (2, 3, "2B"), (999, 3, "999B"), (1984162, 3, "1.98MB"), (1984162, 4, "1.984MB"), (1000, 3, "1kB"),
    (123456789, 3, "123MB"), (999999, 3, "1000kB"), (2 * 10**12, 3, "2TB"),
])
def test_human_size(size: int, digits: int, expected: str) -> None:
    """Decimal units, so many significant digits."""
    assert expected == output.human_size(size, digits)


@pytest.mark.parametrize(("size", "expected"), [
    (0, "0B"), (528 * 1024, "528KiB"), (25275916779, "23.54GiB"), (1024, "1KiB"), (1536, "1.5KiB"),
])
def test_binary_size(size: int, expected: str) -> None:
    """Binary units, four significant digits."""
    assert expected == output.binary_size(size)


@pytest.mark.parametrize(("seconds", "expected"), [
    (0.5, "Less than a second"), (1.2, "1 second"), (59, "59 seconds"), (60, "About a minute"), (119, "About a minute"),
    (120, "2 minutes"), (3599, "59 minutes"), (3600, "About an hour"), (5399, "About an hour"), (5401, "2 hours"),
    (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (14 * 86400, "2 weeks"), (60 * 86400, "2 months"),
    (800 * 86400, "2 years"),
])
def test_human_duration(seconds: float, expected: str) -> None:
    """Durations are told in Docker's words."""
    assert expected == output.human_duration(seconds)


def test_table_is_dockers() -> None:
    """Cells are 10 wide at least, 3 blanks apart, and the last isn't padded."""
    rows = [["STATUS", "PORTS", "NAMES"], ["Up 2 seconds", "", "three"]]

    assert "STATUS         PORTS     NAMES\nUp 2 seconds             three\n" == output.table(rows)


COLUMNS: output.Columns = {
    "ID": ("CONTAINER ID", lambda r: r["id"]),
    "Names": ("NAMES", lambda r: r["name"]),
    "Label": ("", lambda r, name: r["labels"].get(name, "")),
}
ROWS = [{"id": "b902e96124a6", "name": "hc", "labels": {"x": "y"}}, {"id": "b603142ede08", "name": "three", "labels": {}}]


@pytest.mark.parametrize(("format", "expected"), [
    (None, "CONTAINER ID   NAMES\nb902e96124a6   hc\nb603142ede08   three\n"),
    ("table", "CONTAINER ID   NAMES\nb902e96124a6   hc\nb603142ede08   three\n"),
    (r'table {{upper .Names}}\t{{.Label "com.x"}}', "NAMES     x\nHC        \nTHREE     \n"),
    ("{{.ID}}: {{.Names}}", "b902e96124a6: hc\nb603142ede08: three\n"),
    (r"x\t{{.ID}}", "x\tb902e96124a6\nx\tb603142ede08\n"),
    ("json", '{"ID":"b902e96124a6","Names":"hc"}\n{"ID":"b603142ede08","Names":"three"}\n'),
    ("{{json .Names}}", '"hc"\n"three"\n'),
    ("TABLE {{.Names}}", "TABLE hc\nTABLE three\n"),
    ("table{{.Names}}", "NAMES\nhc\nthree\n"),
])
def test_format(format: str | None, expected: str) -> None:
    """`--format` takes Docker's words and templates; `\\t` and `\\n` in it are a tab and a newline."""
    assert expected == output.list_lines(ROWS, COLUMNS, ("ID", "Names"), format=format, kind="ContainerContext")


@pytest.mark.parametrize(("format", "message"), [
    ("{{.ID", "failed to parse template: template: :1: unclosed action"),
    ("{{foo .ID}}", 'failed to parse template: template: :1: function "foo" not defined'),
    ("{{.Nope}}", ("failed to execute template: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type "
                  "*formatter.ContainerContext")),
])
def test_wrong_formats_are_refused(format: str, message: str) -> None:
    """A wrong template is refused in Docker's words."""
    with pytest.raises(Failure) as caught:
        output.list_lines(ROWS, COLUMNS, ("ID",), format=format, kind="ContainerContext")

    assert message == str(caught.value)


def test_text_helpers() -> None:
    """Long texts end in an ellipsis, and are quoted as Go quotes."""
    assert "\"sh -c 'echo hi; exi…\"" == output.quoted(output.ellipsis("sh -c 'echo hi; exit 3'", 20))
    assert '"a\\nb\\"c\\\\"' == output.quoted('a\nb"c\\')


@pytest.mark.parametrize(("text", "expected"), [
    ("1795542126", 1795542126.0),
    ("1795542126.5", 1795542126.5),
    ("2026-11-24T17:42:06Z", 1795542126.0),
    ("2026-11-24T17:42:06.715597747Z", pytest.approx(1795542126.715597)),
    ("2026-11-24T18:42:06+01:00", 1795542126.0),
    ("2026-11-24T17:42Z", 1795542120.0),
])
def test_moments(text: str, expected: float) -> None:
    """RFC 3339 and seconds since the epoch are moments."""
    assert expected == parse_moment(text)


def test_durations_are_moments_before_now() -> None:
    """`10m` is ten minutes ago; a date without a zone is local."""
    assert time.time() - 600 == pytest.approx(parse_moment("10m"), abs=2)
    assert time.mktime((2026, 11, 24, 0, 0, 0, 0, 0, -1)) == parse_moment("2026-11-24")
    with pytest.raises(InvalidSpec, match='invalid value for "until": failed to parse value as time or duration: "foo"'):
        parse_moment("foo", "until")
    with pytest.raises(InvalidSpec):
        parse_moment("2026-13-45")


def test_no_terminal_obeys_what_an_image_says() -> None:
    """Escapes are shown, and text is left alone."""
    evil = "\x1b]0;evil\x07 \x9b2J\x7f\r"
    assert output.visible(evil) == "\\x1b]0;evil\\x07 \\x9b2J\\x7f\\x0d"
    assert output.visible("née\tvraie\n") == "née\tvraie\n"
    assert not set("\x1b\x07\x9b\x7f\r") & set(output.table([["NAME", "LABELS"], ["x", evil]]))
