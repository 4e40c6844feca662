"""Flags by Docker's rules, and help texts and errors in Docker's words."""

from __future__ import annotations

import pytest

from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Help
from pycontainers.cli.flags import Options
from pycontainers.cli.flags import UsageError

FLAGS = (
    Flag("all", "a", "bool", "Show all"),
    Flag("env", "e", "list", "Set environment variables"),
    Flag("filter", "f", "filter", "Filter output"),
    Flag("interactive", "i", "bool", "Keep STDIN open"),
    Flag("last", "n", "int", "Show n last created containers (includes all states)", -1),
    Flag("memory", "m", "bytes", "Memory limit"),
    Flag("name", "", "string", "Assign a name"),
    Flag("publish", "p", "list", "Publish a port"),
    Flag("publish-all", "P", "bool", "Publish all"),
    Flag("sig-proxy", "", "bool", "Proxy signals", True),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("wait", "", "duration", "How long"),
    Flag("weight", "", "uint16", "Weight"),
    Flag("cpus", "", "decimal", "CPUs"),
)


def command(**options: object) -> Command:
    """Return a command with these flags, called `x`."""
    made = Command(lambda _: None, "NAME [ARG...]", FLAGS, **{"least": 1, "most": None, **options})  # type: ignore[arg-type]
    made.path, made.summary, made.aliases = "x", "Do x", ("container x", "x")
    return made


def parse(*argv: str, interspersed: bool = True) -> Options:
    """Return what a command line means."""
    return command(interspersed=interspersed).parse(argv)


@pytest.mark.parametrize(("argv", "name", "expected"), [
    (["c", "-a"], "all", True),
    (["c"], "all", False),
    (["c", "--all=false"], "all", False),
    (["c", "--all=1"], "all", True),
    (["c", "-a=false"], "all", False),
    (["c"], "sig_proxy", True),
    (["c", "--sig-proxy=false"], "sig_proxy", False),
    (["c", "-e", "A=b", "--env=C", "-eD=e"], "env", ["A=b", "C", "D=e"]),
    (["c", "-n5"], "last", 5),
    (["c", "-n", "5", "--last=6"], "last", 6),
    (["c", "-n=5"], "last", 5),
    (["c", "--name", "--all"], "name", "--all"),
    (["c", "-m", "64m"], "memory", 64 * 1024**2),
    (["c", "--wait", "1m30s"], "wait", 90.0),
    (["c", "--weight", "10"], "weight", 10),
    (["c", "--cpus", "1.5"], "cpus", 1.5),
    (["c", "-f", "Status = exited"], "filter", ["status=exited"]),
    # A word processor's dashes.
    (["–a", "c"], "all", True),
    (["—it", "c"], "tty", True),
    (["—name=x", "c"], "name", "x"),
    (["––name", "x", "c"], "name", "x"),
    (["–P", "8181:80", "c"], "publish", ["8181:80"]),
    (["–P", "c"], "publish_all", True),
])
def test_flags_are_read_as_docker_reads_them(argv: list[str], name: str, expected: object) -> None:
    """Bundled letters, `=`, repeated flags and negated ones mean what they mean to Docker."""
    options = parse(*argv)

    assert expected == getattr(options, name)
    assert ["c"] == options.args


def test_bundled_letters() -> None:
    """`-itaeA=b` is three switches and a value."""
    options = parse("-itaeA=b", "c")

    assert (True, True, True, ["A=b"]) == (options.interactive, options.tty, options.all, options.env)
    assert {"interactive", "tty", "all", "env"} == options.given


def test_arguments_end_flags_where_they_must() -> None:
    """After the first argument of run and exec everything belongs to the container's command, dashes of any kind too."""
    assert ["c", "ls", "-a", "–x"] == parse("-t", "c", "ls", "-a", "–x", interspersed=False).args
    assert ["c", "-a"] == parse("--", "c", "-a").args
    assert ["c", "-"] == parse("c", "-").args


@pytest.mark.parametrize(("argv", "code", "message"), [
    (["--bad"], 125, "unknown flag: --bad"),
    (["-x"], 125, "unknown shorthand flag: 'x' in -x"),
    (["-tx"], 125, "unknown shorthand flag: 'x' in -tx"),
    (["--name"], 125, "flag needs an argument: --name"),
    (["-e"], 125, "flag needs an argument: 'e' in -e"),
    (["-n", "foo"], 125, 'invalid argument "foo" for "-n, --last" flag: strconv.ParseInt: parsing "foo": invalid syntax'),
    (["--all=no"], 125, 'invalid argument "no" for "-a, --all" flag: strconv.ParseBool: parsing "no": invalid syntax'),
    (["-m", "foo"], 125, "invalid argument \"foo\" for \"-m, --memory\" flag: invalid size: 'foo'"),
    (["-f", "bad"], 125, 'invalid argument "bad" for "-f, --filter" flag: bad format of filter (expected name=value)'),
    (["--wait", "5"], 125, 'invalid argument "5" for "--wait" flag: time: missing unit in duration "5"'),
    (["--wait", "x"], 125, 'invalid argument "x" for "--wait" flag: time: invalid duration "x"'),
    (["--weight", "99999"], 125,
     'invalid argument "99999" for "--weight" flag: strconv.ParseUint: parsing "99999": value out of range'),
    (["--weight", "-1"], 125,
     'invalid argument "-1" for "--weight" flag: strconv.ParseUint: parsing "-1": invalid syntax'),
    (["--cpus", "x"], 125, 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
    ([], 1, "pycontainers: 'pycontainers x' requires at least 1 argument"),
])
def test_wrong_command_lines_are_refused_as_docker_does(argv: list[str], code: int, message: str) -> None:
    """The message and the exit code are Docker's."""
    with pytest.raises(UsageError) as caught:
        parse(*argv)

    assert (code, message) == (caught.value.code, str(caught.value))


@pytest.mark.parametrize(("least", "most", "argv", "message"), [
    (0, 0, ["a"], "accepts no arguments"),
    (2, 2, ["a"], "requires 2 arguments"),
    (1, 1, ["a", "b"], "requires 1 argument"),
    (1, 2, ["a", "b", "c"], "requires at most 2 arguments"),
])
def test_arguments_are_counted(least: int, most: int, argv: list[str], message: str) -> None:
    """Too few and too many arguments are told apart."""
    with pytest.raises(UsageError) as caught:
        command(least=least, most=most).parse(argv)

    assert f"pycontainers: 'pycontainers x' {message}" == str(caught.value)


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["c", "--help"]])
def test_help_is_asked_for(argv: list[str]) -> None:
    """`--help` and `-h` anywhere among the flags ask for help."""
    with pytest.raises(Help):
        parse(*argv)


def test_help_is_laid_out_as_dockers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage, aliases and flags stand where Docker puts them; long lines are wrapped as pflag wraps them."""
    monkeypatch.setenv("COLUMNS", "80")

    text = command().help()

    assert text.startswith("Usage:  pycontainers x [OPTIONS] NAME [ARG...]\n\nDo x\n\nAliases:\n"
                           "  pycontainers container x, pycontainers x\n\nOptions:\n  -a, --all             Show all\n")
    assert ("  -n, --last int        Show n last created containers (includes all\n"
            "                        states) (default -1)\n") in text
    assert "      --sig-proxy       Proxy signals (default true)\n" in text
