"""Raw mode, detach keys and the copying of streams, on real pseudo-terminals and pipes."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import threading

import pytest

from pycontainers.cli import terminal
from pycontainers.errors import InvalidSpec


@pytest.mark.parametrize(("text", "keys"), [
    ("ctrl-p,ctrl-q", b"\x10\x11"), ("a,b", b"ab"), ("ctrl-@", b"\x00"), ("ctrl-[", b"\x1b"), ("", b""), ("ctrl-\\", b"\x1c"),
])
def test_keys(text: str, keys: bytes) -> None:
    """A sequence of keys is characters, or ctrl- and one."""
    assert keys == terminal.parse_keys(text)


@pytest.mark.parametrize("text", ["ctrl-1", "ab", "ctrl-", "ctrl-a,"])
def test_wrong_keys(text: str) -> None:
    """What is no key is refused."""
    with pytest.raises(InvalidSpec, match="Invalid detach keys"):
        terminal.parse_keys(text)


@pytest.mark.parametrize(("typed", "passed", "detached"), [
    ([b"abc"], b"abc", False),
    ([b"ab\x10\x11c"], b"ab", True),
    ([b"\x10", b"\x11"], b"", True),
    ([b"\x10", b"x"], b"\x10x", False),
    ([b"\x10\x10\x11"], b"\x10", True),
    ([b"\x11\x10"], b"\x11", False),
])
def test_detach_keys(typed: list[bytes], passed: bytes, detached: bool) -> None:
    """The sequence is found across reads; a beginning of it that goes on otherwise is passed on whole."""
    keys = terminal.DetachKeys(b"\x10\x11")

    results = [keys.feed(data) for data in typed]

    assert passed == b"".join(data for data, _ in results)
    assert detached == results[-1][1]


def test_raw_mode_is_undone() -> None:
    """The terminal is as it was after the block, an error in it or not; what is no terminal is left alone."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    with pytest.raises(ValueError, match="x"), terminal.RawMode(slave):
        assert not termios.tcgetattr(slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        raise ValueError("x")

    assert before == termios.tcgetattr(slave)
    reader, writer = os.pipe()
    with terminal.RawMode(reader):
        pass
    for fd in (master, slave, reader, writer):
        os.close(fd)


def test_window_size_is_copied() -> None:
    """The size of one terminal becomes that of the other; a pipe has none to give."""
    ours, theirs = pty.openpty(), pty.openpty()
    fcntl.ioctl(ours[0], termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))

    terminal.copy_size(ours[1], theirs[0])

    assert (33, 101) == struct.unpack("HHHH", fcntl.ioctl(theirs[1], termios.TIOCGWINSZ, b"\0" * 8))[:2]
    reader, writer = os.pipe()
    terminal.copy_size(reader, theirs[0])
    assert (33, 101) == struct.unpack("HHHH", fcntl.ioctl(theirs[1], termios.TIOCGWINSZ, b"\0" * 8))[:2]
    for fd in (*ours, *theirs, reader, writer):
        os.close(fd)


def test_input_is_copied_to_its_end() -> None:
    """All bytes arrive, however slow the reader is, and then the end of file is passed on."""
    reader, writer = os.pipe()
    there, target = os.pipe()
    copier = terminal.InputCopier(reader, target, lambda: os.close(target))
    copier.start()
    data = os.urandom(1 << 18)
    feeder = threading.Thread(target=lambda: (terminal.write_all(writer, data), os.close(writer)))
    feeder.start()
    got = b""
    while piece := os.read(there, 1 << 16):
        got += piece
    feeder.join()
    copier.stop()

    assert data == got
    os.close(reader)
    os.close(there)


def test_input_can_be_stopped_while_the_reader_is_busy() -> None:
    """Stopping returns although nobody reads what is to be written."""
    reader, writer = os.pipe()
    there, target = os.pipe()
    copier = terminal.InputCopier(reader, target, lambda: None)
    copier.start()
    feeder = threading.Thread(target=terminal.write_all, args=(writer, b"x" * (1 << 17)), daemon=True)
    feeder.start()

    copier.stop()

    while feeder.is_alive():
        os.read(reader, 1 << 16)
    for fd in (reader, writer, there, target):
        os.close(fd)


def test_detaching_is_told() -> None:
    """The detach keys end the copying, after what was typed before them."""
    reader, writer = os.pipe()
    there, target = os.pipe()
    copier = terminal.InputCopier(reader, target, lambda: None, b"\x10\x11")
    copier.start()
    os.write(writer, b"ls\x10\x11rest")

    assert copier.detached.wait(5)
    copier.stop()
    assert b"ls" == os.read(there, 100)
    for fd in (reader, writer, there, target):
        os.close(fd)


def test_signals_are_handled_for_a_while() -> None:
    """A signal is passed on inside the block, and has its former handler after it."""
    before = signal.getsignal(signal.SIGUSR1)
    seen: list[int] = []
    handlers = terminal.proxied(seen.append)
    with terminal.Signals({signal.SIGUSR1: handlers[signal.SIGUSR1]}):
        os.kill(os.getpid(), signal.SIGUSR1)

    assert [signal.SIGUSR1] == seen
    assert before == signal.getsignal(signal.SIGUSR1)
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT} <= handlers.keys()
    assert not {signal.SIGCHLD, signal.SIGWINCH, signal.SIGKILL, signal.SIGPIPE} & handlers.keys()
