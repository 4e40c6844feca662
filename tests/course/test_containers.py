"""The course's command lines on containers, in its order, with `pycontainers` for `docker`.

`CONTAINERS` are the lines of "Conteneurs: les bases", from "Containeur basique" to the end; `INTERACTIVE` those of
"Construire une image interactivement" up to its diff. Each stands as the course prints it, slips of the pen and of the
scan included, beside how it is read:

    docker ps –a                           an en dash is a dash
    docker exec —it                        an em dash too
    docker rm vibrant swanson              one name, whose underscore the scan lost
    docker start -i (under "Logs")         `docker logs` is meant; both show the output
    docker pause $id_ conteneur            $id_conteneur
    docker diff: `C/var`                   `C /var`

The images are imported under the names that the course pulls, and have the host's network, where apt needs one.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clikit import Program
from clikit import own_program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONTAINERS = {
    "salut": 'docker run debian /bin/echo "Salut"',
    "coucou": 'docker run debian /bin/echo "Coucou"',
    "list": "docker ps",
    "list all": "docker ps –a",
    "again": "docker start -i vibrant_swanson",
    "logs": "docker logs vibrant_swanson",
    "remove": "docker rm vibrant swanson",
    "shell": "docker run -it debian /bin/bash",
    "stop": "docker stop $id_conteneur",
    "kill": "docker kill $id_conteneur",
    "pause": "docker pause $id_conteneur",
    "exec": "docker exec -it vibrant_swanson /bin/bash",
    "exec, as the volumes' slide has it": "docker exec —it id_conteneur ls /var/log",
}
INTERACTIVE = {
    "start": "docker run -it ubuntu",
    "update": "apt-get update",
    "install": "apt-get install python3",
    "leave": "exit",
    "diff": "docker diff f461e2e7afff",
}
PROMPT = r"root@([0-9a-f]{12}):/# "
APT_PATIENCE = 600.0


def words(line: str) -> list[str]:
    """Return a line's words without the program's."""
    return line.split()[1:]


@pytest.fixture(scope="module")
def program(debian_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program, on a store that has the course's images: `debian`, and `ubuntu`, whose command is bash."""
    with own_program(tmp_path_factory.mktemp("course") / "store") as program:
        packed = subprocess.Popen(["tar", "-C", str(debian_root), "-c", "."], stdout=subprocess.PIPE)
        assert packed.stdout is not None
        done = subprocess.run([*program.command, "import", "-c", 'CMD ["/bin/bash"]', "-", "debian"], stdin=packed.stdout,
                              capture_output=True, text=True, check=False, env=program.environment, timeout=300)
        packed.stdout.close()
        assert (0, 0) == (packed.wait(), done.returncode), done.stderr
        assert 0 == program("tag", "debian", "ubuntu").returncode
        yield program


@pytest.fixture(autouse=True)
def empty(program: Program) -> Iterator[None]:
    """Each part of the course begins without containers."""
    yield
    ids = program("ps", "-aq").stdout.split()
    if ids:
        assert 0 == program("rm", "-f", *ids).returncode


def test_containers(program: Program) -> None:
    """From "Containeur basique" to "Ménage"."""
    assert "Salut\n" == program.shell(CONTAINERS["salut"]).stdout
    assert "Coucou\n" == program.shell(CONTAINERS["coucou"]).stdout

    assert ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"] == re.split(
        r" {2,}", program.shell(CONTAINERS["list"]).stdout.strip())
    header, *rows = program.shell(CONTAINERS["list all"]).stdout.splitlines()
    assert header.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    age = r"(Less than a second|\d+ seconds?|About a minute) ago"
    for row, said in zip(rows, ("Coucou", "Salut"), strict=True):
        assert re.fullmatch(rf'[0-9a-f]{{12}}   debian    "/bin/echo {said}" +{age} +Exited \(0\) {age} +[a-z]+_[a-z]+', row)

    assert 0 == program("rename", rows[1].split()[-1], "vibrant_swanson").returncode
    assert "Salut\n" == program.shell(CONTAINERS["again"]).stdout
    assert "Salut\nSalut\n" == program.shell(CONTAINERS["logs"]).stdout
    removed = program.shell(CONTAINERS["remove"])
    assert (0, "vibrant_swanson\n", "") == (removed.returncode, removed.stdout, removed.stderr)
    assert "vibrant_swanson" not in program("ps", "-a").stdout


def test_a_running_container(program: Program) -> None:
    """`run -it debian /bin/bash`: the prompt has the id, `ps -a` shows what runs inside, a second shell joins it."""
    shell = program.terminal(*words(CONTAINERS["shell"]))
    id = shell.expect(PROMPT)[1]
    assert id == program("ps", "-q").stdout.strip()
    shell.type("ps -a\n")
    shell.expect(r"PID TTY +TIME CMD\r\n +\d+ \S+ +00:00:00 ps\r\n")
    shell.expect(PROMPT)
    assert 0 == program("rename", id, "vibrant_swanson").returncode

    second = program.terminal(*words(CONTAINERS["exec"]))
    assert id == second.expect(PROMPT)[1]
    second.type("cat /proc/1/comm; exit\n")
    second.expect(r"bash\s")
    assert 0 == second.end()
    third = program.terminal(*words(CONTAINERS["exec, as the volumes' slide has it"].replace("id_conteneur", id)))
    third.expect("apt")
    assert 0 == third.end()

    shell.type("exit\n")
    assert 0 == shell.end()
    assert "" == program("ps", "-q").stdout


@pytest.mark.parametrize(("line", "status", "code"), [
    ("stop", r"Exited \(137\) .* ago", 137), ("kill", r"Exited \(137\) .* ago", 137), ("pause", r"Up .* \(Paused\)", None)])
def test_interrupting_a_container(program: Program, line: str, status: str, code: int | None) -> None:
    """stop, kill and pause say the name they were given, and `ps -a` how the container is."""
    shell = program.terminal(*words(CONTAINERS["shell"]))
    id = shell.expect(PROMPT)[1]

    said = program.shell(CONTAINERS[line], id_conteneur=id)

    assert (0, f"{id}\n", "") == (said.returncode, said.stdout, said.stderr)
    assert re.fullmatch(status, program("ps", "-a", "--format", "{{.Status}}").stdout.strip())
    if code is None:
        assert "is paused, unpause the container before exec" in program("exec", id, "true").stderr
        assert 0 == program("unpause", id).returncode
        shell.type("exit 3\n")
        code = 3
    assert code == shell.end()


def test_making_an_image_by_hand(program: Program) -> None:
    """A package is installed in a shell, and `diff` tells what that changed."""
    shell = program.terminal("run", "--network", "host", *words(INTERACTIVE["start"])[1:])
    id = shell.expect(PROMPT)[1]
    shell.type(INTERACTIVE["update"] + "\n")
    shell.expect(PROMPT, APT_PATIENCE)
    shell.type(INTERACTIVE["install"] + "\n")
    shell.expect(r"Do you want to continue\? \[Y/n\] ", APT_PATIENCE)
    shell.type("y\n")
    shell.expect(PROMPT, APT_PATIENCE)
    shell.type("python3 -c 'print(6 * 7)'\n")
    shell.expect(r"\b42\s")
    shell.type(INTERACTIVE["leave"] + "\n")
    assert 0 == shell.end()

    changes = program.shell(INTERACTIVE["diff"].replace("f461e2e7afff", id)).stdout.splitlines()
    assert {"C /var", "C /var/log/apt", "C /etc", "A /usr/bin/python3"} <= set(changes)
    assert [c for c in changes if re.fullmatch(r"A /etc/python3\.\d+/sitecustomize.py", c)]
    assert not [c for c in changes if re.match(r". /(proc|sys|dev)\b", c)]
    assert "Do you want to continue? [Y/n] y" in program("logs", id).stdout
