"""Connections to supervisors: closed by one thread while another waits on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from lifekit import Store
from lifekit import own_store
from lifekit import require_native

from pycontainers import Container

require_native()

from pycontainers.backends.native.control import Watch  # noqa: E402
from pycontainers.backends.native.launcher import Gone  # noqa: E402


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of the module's own."""
    with own_store(tmp_path_factory.mktemp("control")) as made:
        yield made


@pytest.fixture
def running(store: Store) -> Iterator[Container]:
    """A container that runs."""
    with store.box("sleep", "300", init=True) as container:
        yield container


def test_closing_wakes_and_takes_nothing_from_others(store: Store, running: Container) -> None:
    """A thread that waits on a connection which is closed gets its end, never the answer of the next connection.

    The next one often has the same descriptor number.
    """
    backend = store.engine.backend
    root, directory = backend._launcher.root_fd, backend._containers.directory(running.id)
    ended = []

    def wait(watch: Watch, begun: threading.Event) -> None:
        begun.set()
        try:
            while True:
                watch.next()
        except Gone:
            ended.append(watch)

    for _ in range(300):
        watch, begun = Watch(root, directory), threading.Event()
        watch.next()
        thread = threading.Thread(target=wait, args=(watch, begun))
        thread.start()
        begun.wait()
        watch.close()
        other = Watch(root, directory)
        assert other.next(10) is not None
        other.close()
        thread.join(10)
        assert not thread.is_alive()
    assert len(ended) == 300
