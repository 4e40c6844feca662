"""container prune, image prune, system prune."""

from __future__ import annotations

from typing import Any

from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.output import confirm
from pycontainers.cli.output import filters
from pycontainers.cli.output import human_size

_DANGLING = "dangling images"
_UNUSED = "images without at least one container associated to them"


def _say(title: str, lines: list[str]) -> None:
    if lines:
        print(f"{title}:", *lines, "", sep="\n")


def _image_lines(removed: Any) -> list[str]:
    from pycontainers.dockerapi import familiar

    return [*(f"untagged: {familiar(t)}" for t in removed.untagged), *(f"deleted: {d}" for d in removed.deleted)]


def _containers(options: Options) -> None:
    from pycontainers.container import Container

    if not options.force and not confirm("WARNING! This will remove all stopped containers."):
        return
    removed = Container.prune(filters=filters(options.filter))
    _say("Deleted Containers", list(removed.deleted))
    print(f"Total reclaimed space: {human_size(removed.reclaimed, 4)}")


def _images(options: Options) -> None:
    from pycontainers import Image

    what = _UNUSED if options.all else _DANGLING
    if not options.force and not confirm(f"WARNING! This will remove all {what}."):
        return
    removed = Image.prune(all=options.all, filters=filters(options.filter))
    _say("Deleted Images", _image_lines(removed))
    print(f"Total reclaimed space: {human_size(removed.reclaimed, 4)}")


def _all(options: Options) -> None:
    from pycontainers import Image
    from pycontainers.container import Container

    what = _UNUSED if options.all else _DANGLING
    warning = f"WARNING! This will remove:\n  - all stopped containers\n  - all {what}\n"
    if options.filter:
        warning += "\n  Items to be pruned will be filtered with:\n" + "".join(f"  - {f}\n" for f in options.filter)
    if not options.force and not confirm(warning):
        return
    wanted = filters(options.filter)
    containers = Container.prune(filters=wanted)
    images = Image.prune(all=options.all, filters=wanted)
    _say("Deleted Containers", list(containers.deleted))
    _say("Deleted Images", _image_lines(images))
    print(f"Total reclaimed space: {human_size(containers.reclaimed + images.reclaimed, 4)}")


_FORCE = Flag("force", "f", "bool", "Do not prompt for confirmation")
_UNTIL = Flag("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")')
_ALL = Flag("all", "a", "bool", "Remove all unused images, not just dangling ones")

PRUNE_CONTAINERS = Command(_containers, "", (_UNTIL, _FORCE))
PRUNE_IMAGES = Command(_images, "", (_ALL, _UNTIL, _FORCE))
_LABEL = Flag("filter", "", "filter", 'Provide filter values (e.g. "label=<key>=<value>")')
PRUNE_ALL = Command(_all, "", (_ALL, _LABEL, _FORCE))
