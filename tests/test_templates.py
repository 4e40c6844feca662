"""Go templates: every expected text was printed by Docker's own client for the same container."""

from __future__ import annotations

import pytest

from pycontainers.templates import Fields
from pycontainers.templates import OpenMap
from pycontainers.templates import Template
from pycontainers.templates import TemplateError
from pycontainers.templates import encode

CONTAINER = {
    "Name": "/tt",
    "Path": "sleep",
    "Args": ["10"],
    "RestartCount": 0,
    "State": {"Status": "created", "Running": False, "Paused": False},
    "HostConfig": {
        "Memory": 67108864,
        "Dns": [],
        "CapAdd": None,
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "PortBindings": OpenMap({"81/udp": [{"HostIp": "127.0.0.1", "HostPort": "80"}],
                                 "82/tcp": [{"HostIp": "", "HostPort": ""}]}),
    },
    "Config": {"Env": ["A=b"], "Cmd": ["sleep", "10"], "Labels": OpenMap(foo="bar", z="y"),
               "ExposedPorts": OpenMap({"82/tcp": OpenMap()})},
    "Mounts": [],
}

RENDERED = [
    ("{{json .Args}}", '["10"]'),
    ('{{join .Args "-"}}', "10"),
    ('{{.Config.Labels.foo}} {{.Config.Labels.nope}} {{index .Config.Labels "nope"}}|', "bar <no value> |"),
    ('{{upper .Name}} {{lower "ABC"}} {{title "abc def"}} {{split .Name "/"}} {{truncate .Name 2}} {{println .Name}}',
     "/TT abc Abc Def [ tt] /t /tt\n"),
    ('{{printf "%s-%d %q %v %5.1f %t %x %05d %-5s| %5s|" .Name 3 "x" .State.Running 2.5 true 255 42 "ab" "cd"}}',
     '/tt-3 "x" false   2.5 true ff 00042 ab   |    cd|'),
    ('{{pad "x" 2 3}}|', "  x   |"),
    ('{{if eq .State.Status "created"}}C{{else if eq .State.Status "running"}}R{{else}}N{{end}}', "C"),
    ("{{with .Config.Labels}}{{.foo}}{{else}}no{{end}}", "bar"),
    ('{{not .State.Paused}} {{and 1 0}} {{and 1 2}} {{or "" "x"}} {{or 0 ""}}', "true 0 2 x "),
    (r"""{{html "<"}} {{js "a\"b"}} {{urlquery "a b"}}""", r"&lt; a\"b a+b"),
    ("{{len .Name}} {{slice .Name 0 2}} {{lt 1 2}} {{ge 2 2}} {{eq 1 2 1}}", "3 /t true true true"),
    ("{{.HostConfig.Memory}} {{.HostConfig.CapAdd}} {{.Config.Env}} {{.HostConfig.Dns}}",
     "67108864 <no value> [A=b] []"),
    ("{{range .Config.Env}}[{{.}}]{{end}}", "[A=b]"),
    ("{{range $i, $e := .Args}}{{$i}}:{{$e}},{{end}}{{range .Mounts}}m{{else}}none{{end}}", "0:10,none"),
    ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "foo=bar;z=y;"),
    ('{{$x := .Name}}{{$x}}{{$x = "b"}}{{$x}}', "/ttb"),
    ('{{- .Name -}}  x  {{- "y" }}', "/ttxy"),
    (r"a\tb\nc", r"a\tb\nc"),
    ("{{/* c */}}x", "x"),
    ('{{.Name | printf "%s!" | upper}}', "/TT!"),
    ("{{(index .Args 0)}}", "10"),
    ('{{define "x"}}D{{.}}{{end}}{{template "x" .Name}}', "D/tt"),
    ("{{range .Args}}{{break}}{{end}}ok", "ok"),
    ('{{json .Config.Labels}} {{json .Name}} {{json "<a>"}}', '{"foo":"bar","z":"y"} "/tt" "<a>"'),
    ("{{$.Name}} {{with .State}}{{$.Name}}{{end}}", "/tt /tt"),
    ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
    ('{{printf "%v %v" .Args .Config.Labels}}', "[10] map[foo:bar z:y]"),
    ("{{range 3}}x{{end}}", "xxx"),
    ('{{(index (index .HostConfig.PortBindings "82/tcp") 0).HostPort}}|', "|"),
    ('{{index .Config.ExposedPorts "82/tcp"}}', "map[]"),
    ("{{json .HostConfig.PortBindings}}",
     '{"81/udp":[{"HostIp":"127.0.0.1","HostPort":"80"}],"82/tcp":[{"HostIp":"","HostPort":""}]}'),
    ('{{gt 3 2}} {{ne "a" "b"}} {{le "a" "b"}}', "true true true"),
    ("{{.Config.Cmd}} {{.Path}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}", "[sleep 10] sleep 0 no"),
]

REFUSED = [
    ("{{with .NoSuch}}x{{end}}", ':1:7: executing "" at <.NoSuch>: map has no entry for key "NoSuch"'),
    ("{{.Nope}}", ':1:2: executing "" at <.Nope>: map has no entry for key "Nope"'),
    ("{{.State.Nope.X}}", ':1:8: executing "" at <.State.Nope.X>: map has no entry for key "Nope"'),
    (r"""{{"a\tb"}} {{`raw\t`}} {{3.5}} {{true}} {{nil}}""", ':1:42: executing "" at <nil>: nil is not a command'),
    ("{{index .Args 5}}", ':1:2: executing "" at <index .Args 5>: error calling index: index out of range: 5'),
    ("{{end}}", ":1: unexpected {{end}}"),
    ("{{else}}", ":1: unexpected {{else}}"),
    ("{{if .Name}}", ":1: unexpected EOF"),
    ("{{range}}x{{end}}", ":1: missing value for range"),
    ("{{if}}x{{end}}", ":1: missing value for if"),
    ("{{.Name", ":1: unclosed action"),
    ("{{foo}}", ':1: function "foo" not defined'),
    ("{{.Name | foo}}", ':1: function "foo" not defined'),
    ('{{"unterminated}}', ":1: unterminated quoted string"),
    ("{{len 3}}", ':1:2: executing "" at <len 3>: error calling len: len of type int'),
    ('{{eq 1 "a"}}', ':1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison'),
    ("{{eq .State.Status}}",
     ':1:2: executing "" at <eq .State.Status>: error calling eq: missing argument for comparison'),
    ('{{template "x"}}', ':1:11: executing "" at <{{template "x"}}>: template "x" not defined'),
    ("{{1 2}}", ':1:2: executing "" at <1>: can\'t give argument to non-function 1'),
    ("{{.Name 1}}", ':1:2: executing "" at <.Name>: Name is not a method but has arguments'),
    ("{{upper 1}}", ':1:8: executing "" at <1>: expected string; found 1'),
    ("{{upper}}", ':1:2: executing "" at <upper>: wrong number of args for upper: want 1 got 0'),
    ("{{join .Args}}", ':1:2: executing "" at <join>: wrong number of args for join: want 2 got 1'),
    ("{{$y}}", ':1: undefined variable "$y"'),
    ("{{call 1}}", ':1:2: executing "" at <call 1>: error calling call: non-function 1 of type int'),
]


@pytest.mark.parametrize(("template", "expected"), RENDERED)
def test_renders_as_docker(template: str, expected: str) -> None:
    """A template gives, byte for byte, what Docker's client prints."""
    assert expected == Template(template).render(CONTAINER)


@pytest.mark.parametrize(("template", "expected"), REFUSED)
def test_refuses_as_docker(template: str, expected: str) -> None:
    """A wrong template is refused in Go's words, at Go's line and column."""
    with pytest.raises(TemplateError) as caught:
        Template(template).render(CONTAINER)

    assert f"template: {expected}" == str(caught.value)
    assert caught.value.parsing == ("executing" not in expected)


def test_rows_have_methods() -> None:
    """A listing's row answers for fields and for methods with an argument, and refuses others as Docker does."""
    row = Fields({"foo": "bar"}, {"ID": lambda s: "66<", "Label": lambda s, name: s.get(name, "")}, "ContainerContext")

    assert "66< bar |" == Template('{{.ID}} {{.Label "foo"}} {{.Label "x"}}|').render(row)
    assert '{"ID":"66\\u003c"}' == encode(row)
    for template, message in [
        ("{{.Nope}}", ":1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type *formatter.ContainerContext"),
        ("{{.ID.X}}", ":1:5: executing \"\" at <.ID.X>: can't evaluate field X in type string"),
        ("{{.Label}}", ':1:2: executing "" at <.Label>: wrong number of args for Label: want 1 got 0'),
    ]:
        with pytest.raises(TemplateError) as caught:
            Template(template).render(row)
        assert f"template: {message}" == str(caught.value)


def test_header_shows_first_arguments() -> None:
    """A table's heading is the template over the columns' titles, where functions change nothing."""
    titles = OpenMap(ID="CONTAINER ID", Names="NAMES")

    assert "CONTAINER ID NAMES x" == Template('{{json .ID}} {{upper .Names}} {{lower "x"}}').render(titles, header=True)
