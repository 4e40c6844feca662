"""How long an ordinary user's containers live, where no cgroup tells which processes are a container's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accountkit import PRELUDE
from accountkit import Account
from accountkit import own_account
from accountkit import own_interpreter
from accountkit import require_root
from lifekit import heard
from lifekit import require_native
from lifekit import wait_until

require_native()
require_root()

KINDS = {
    "set-user-id": '"/setuid/sleep", "600"',
    "sessions": '"sh", "-c", "setsid setsid sleep 600 & trap : TERM; setsid sleep 600 & sleep 600 & wait; wait"',
    "host-pid": '"sh", "-c", "setsid sleep 600 & setsid setsid sleep 600 & sleep 600", pid="host"',
}


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """A user with a single id, a store and an image."""
    with own_interpreter() as interpreter, own_account(interpreter, ranges=False) as made:
        made.run("-c", PRELUDE + 'Image.import_rootfs(home / "rootfs", "box", engine=Engine("native", root=root))')
        yield made


def sleepers(account: Account) -> list[int]:
    """Return the user's processes that sleep in a container."""
    return [pid for pid, command in account.processes().items() if "sleep 600" in command]


@pytest.mark.parametrize("kind", KINDS)
def test_with_dies_with_its_process(account: Account, kind: str) -> None:
    """Nothing is left of it within a second, whatever it started."""
    owner = account.talk(f"c = Box({KINDS[kind]})\nc.__enter__()\nsay(c.id)\nhear()\n")
    try:
        heard(owner)
        wait_until(lambda: sleepers(account))
    finally:
        owner.kill()
        owner.communicate()
    wait_until(lambda: not sleepers(account), 1)
    assert account.python("say(Container.list(all=True, engine=engine))") == "[]\n"


def test_supervisor_killed_in_the_hosts_pid_namespace(account: Account) -> None:
    """The next use ends what no namespace and no cgroup did; and what commands leave behind is reaped meanwhile."""
    account.python(f"""
c = Box({KINDS["host-pid"]})
c.start()
for _ in range(20):
    c.exec("sh", "-c", "setsid sleep 0.01 & true")
supervisor = int(subprocess.run(["pgrep", "-f", f"supervisor {{c.id}}"], capture_output=True, text=True).stdout)
deadline = time.monotonic() + 10
def children():
    return Path(f"/proc/{{supervisor}}/task/{{supervisor}}/children").read_text().split()
while len(children()) > 3:
    assert time.monotonic() < deadline, children()
    time.sleep(0.01)
os.kill(supervisor, signal.SIGKILL)
assert c.wait(timeout=10) == 137
assert c.status == "exited"
c.remove()
""")
    wait_until(lambda: not sleepers(account), 1)
