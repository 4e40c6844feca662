"""Decides what a container's spec means on this machine, and writes it down as a plan."""

from __future__ import annotations

import os
import resource
import socket
import stat
import struct
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from attrs import evolve
from attrs import field
from attrs import frozen

from pycontainers.backends.native import cgroups
from pycontainers.backends.native import seccomp
from pycontainers.backends.native.hostimage import HostLayers
from pycontainers.backends.native.launcher import DEFAULT_CAPABILITIES
from pycontainers.backends.native.plan import CAPABILITIES
from pycontainers.backends.native.plan import C
from pycontainers.backends.native.plan import PlanBuilder
from pycontainers.backends.native.plan import PlanHead
from pycontainers.backends.native.plan import ProcessPlan
from pycontainers.backends.native.plan import capability_mask
from pycontainers.errors import InvalidSpec
from pycontainers.errors import Unsupported
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ExecSpec
from pycontainers.spec import HealthCheck
from pycontainers.spec import ImageConfig
from pycontainers.spec import Mount
from pycontainers.spec import Pairs
from pycontainers.spec import is_root
from pycontainers.spec import parse_signal

#: What an account needs for users other than root in a container.
RANGES_REMEDY = ("this account has a single id; give it ranges with `usermod --add-subuids` and `--add-subgids`, and begin a "
                 "new store; see `pycontainers doctor`")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Docker's lists (moby, oci/defaults.go).
MASKED = ("/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
          "/sys/devices/virtual/powercap")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
#: MS_PRIVATE, MS_SLAVE and MS_SHARED, always of the whole tree.
_PROPAGATION = {"": 1 << 18, "private": 1 << 18, "rprivate": 1 << 18, "slave": 1 << 19, "rslave": 1 << 19,
                "shared": 1 << 20, "rshared": 1 << 20}
#: What a container's own namespaces hold of /proc/sys (runc, libcontainer/configs/validate).
_IPC_SYSCTLS = frozenset("kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni "
                         "kernel.shm_rmid_forced".split())
_SHM_SIZE = 64 * 1024**2
_UNLIMITED = (1 << 64) - 1
_LIMITS = {name[7:].lower(): number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}
_LIMITS.update(locks=10, sigpending=11, msgqueue=12, nice=13, rtprio=14, rttime=15)


@frozen
class Source:
    """Something of the host's that a start must send along: a path, and the plan's slot for it."""

    slot: int
    path: str
    create: bool = False
    recursive: bool = True


@frozen(kw_only=True)
class Planned:
    """A plan's bytes, what must be sent with it, and which launcher it needs."""

    data: bytes = field(repr=False)
    sources: tuple[Source, ...] = ()
    #: Needs the launcher that kept all capabilities.
    full: bool = False
    new_network: bool = False
    flags: int = 0


@frozen(kw_only=True)
class Context:
    """What a plan depends on beside the spec: where the container lies, its layers, and how this store runs."""

    id: str
    name: str
    directory: str
    #: The name of its cgroups.
    cgroup: str
    lowers: tuple[str, ...]
    config: ImageConfig
    rootless: bool
    single_id: bool
    cache: str
    #: Overlays of the host's own root, and what is masked in them; None for other images.
    host: HostLayers | None = None
    image: str = ""
    #: Told with every event.
    labels: Pairs = ()


def effective_argv(spec: ContainerSpec, config: ImageConfig) -> tuple[str, ...]:
    """Return the command line by Docker's rules: a new entrypoint drops the image's command."""
    if spec.entrypoint is not None:
        entrypoint = tuple(part for part in spec.entrypoint if part or len(spec.entrypoint) > 1)
        command = spec.command or ()
    else:
        entrypoint = config.entrypoint or ()
        command = spec.command if spec.command else config.command or ()
    argv = (*entrypoint, *command)
    if not argv:
        raise InvalidSpec("no command specified: the image has none, so name one")
    return argv


def effective_environment(spec: ContainerSpec, config: ImageConfig, hostname: str) -> tuple[str, ...]:
    """Return the environment: Docker's own variables, the image's, then the caller's."""
    merged = {"PATH": PATH}
    if spec.uts != "host":
        merged["HOSTNAME"] = hostname
    if spec.tty:
        merged["TERM"] = "xterm"
    merged.update(config.environment)
    merged.update(spec.environment)
    return tuple(f"{name}={value}" for name, value in merged.items())


def capabilities_of(spec: ContainerSpec) -> frozenset[str]:
    """Return the capabilities that cap_add and cap_drop leave, by Docker's rules."""
    def names(texts: Sequence[str], option: str) -> set[str]:
        result = set()
        for text in texts:
            name = text.upper().removeprefix("CAP_")
            if name != "ALL" and name not in CAPABILITIES:
                raise InvalidSpec(f"{option}: {text!r} is no capability; see capabilities(7)")
            result.add(name)
        return result

    if spec.privileged:
        return frozenset(_available())
    added, dropped = names(spec.cap_add, "cap_add"), names(spec.cap_drop, "cap_drop")
    result = set(DEFAULT_CAPABILITIES)
    if "ALL" in added:
        result = set(_available())
    if "ALL" in dropped:
        result = set()
    result |= added - {"ALL"}
    if "ALL" not in dropped:
        result -= dropped
    return frozenset(result)


@lru_cache(maxsize=1)
def _available() -> tuple[str, ...]:
    """Return the capabilities that this kernel has and this process may give."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    mask = int(fields["CapBnd"], 16)
    return tuple(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


@frozen
class _Security:
    filter: bytes
    no_new_privileges: bool
    masked: tuple[str, ...]
    read_only: tuple[str, ...]


def _security(spec: ContainerSpec, capabilities: frozenset[str], cache: str) -> _Security:
    profile: str | None = None
    no_new = False
    full_names = frozenset(f"CAP_{name}" for name in capabilities)
    masked, read_only = (MASKED, READ_ONLY) if not spec.privileged else ((), ())
    for option in spec.security_opt:
        name, _, value = option.replace(":", "=", 1).partition("=") if "=" not in option else option.partition("=")
        if name == "no-new-privileges":
            no_new = value in ("", "true")
        elif name == "seccomp":
            profile = value
        elif name == "systempaths" and value == "unconfined":
            masked = read_only = ()
        elif name in ("apparmor", "label"):
            # Not ours to confine with; `unconfined` and `disable` are what holds anyway.
            if value not in ("unconfined", "disable"):
                raise Unsupported(f"backend native lacks security_opt {option!r}: it applies no {name} profiles")
        else:
            raise InvalidSpec(f"security_opt: unknown option {option!r}")
    if (spec.privileged and profile is None) or profile == "unconfined":
        program = b""
    elif profile in (None, "builtin", "default"):
        program = seccomp.compile_default(full_names, cache=cache)
    else:
        text = profile
        if not text.lstrip().startswith("{"):
            try:
                with open(text, encoding="utf-8") as file:
                    text = file.read()
            except OSError as error:
                raise InvalidSpec(f"security_opt: reading the seccomp profile {profile!r}: {error.strerror}") from error
        program = seccomp.compile_profile(text, full_names, cache=cache)
    return _Security(program, no_new, masked, read_only)


class _Planner:
    """Writes one container's plan; each method adds the ops of one concern, in the order of carrying out."""

    def __init__(self, spec: ContainerSpec, context: Context) -> None:
        self.spec = spec
        self.context = context
        self.builder = PlanBuilder()
        self.sources: list[Source] = []
        self.layout = cgroups.layout()
        self.hostname = spec.hostname or (socket.gethostname() if spec.uts == "host" else context.id[:12])

    # -- the supervisor's half ------------------------------------------------------------------------------------------

    def cgroups(self) -> list[int]:
        """Make the container's cgroups and set its limits; returns the slots of v1 hierarchies to join."""
        b, spec = self.builder, self.spec
        name = b.text(self.context.cgroup)
        writes = limit_writes(spec)
        joins = []
        wanted = {*cgroups.BASIC, *(controller for controller, *_ in writes)}
        own_devices = bool(spec.privileged or spec.devices or spec.device_cgroup_rules)
        rules = (*cgroups.DEVICE_RULES, *self._device_rules(), *spec.device_cgroup_rules) if not spec.privileged else ()
        program = cgroups.device_program(rules)
        wanted.add("devices")
        for slot, hierarchy in enumerate(self.layout.hierarchies):
            if not hierarchy.unified and not wanted & set(hierarchy.controllers):
                continue
            flags = C.PYC_OP_UNIFIED if hierarchy.unified else 0
            if "devices" in hierarchy.controllers and not hierarchy.unified and not own_devices:
                # The rules that most containers have stand in one cgroup that they share: writing them takes 70 us.
                b.op(C.PYC_OP_CGROUP, C.PYC_OP_OPTIONAL, slot=slot, a=b.text(cgroups.DEFAULT))
                joins.append(slot)
                continue
            watched = int("memory" in hierarchy.controllers and spec.memory is not None)
            b.op(C.PYC_OP_CGROUP, flags, slot=slot, a=name, x=watched)
            if not hierarchy.unified:
                joins.append(slot)
        for controller, file, value, optional in writes:
            slot = self.layout.slot(controller)
            if slot < 0:
                raise Unsupported(f"backend native lacks limits of {controller} here: no cgroup with that controller is "
                                  "this user's; see `pycontainers doctor`")
            if self.layout.hierarchies[slot].unified:
                file, value = unified_file(file, value, self.spec.memory)
            b.op(C.PYC_OP_CGROUP_WRITE, C.PYC_OP_OPTIONAL if optional else 0, slot=slot, a=b.text(file), b=b.text(value))
        slot = self.layout.slot("devices")
        if slot < 0 and rules and self.layout.unified >= 0 and not self.context.rootless:
            b.op(C.PYC_OP_DEVICE_FILTER, slot=self.layout.unified, a=b.data(program), x=len(program))
        elif own_devices and rules and slot >= 0:
            b.op(C.PYC_OP_CGROUP_WRITE, slot=slot, a=b.text("devices.deny"), b=b.text("a"))
            for rule in rules:
                b.op(C.PYC_OP_CGROUP_WRITE, slot=slot, a=b.text("devices.allow"), b=b.text(rule))
        return joins

    def _device_rules(self) -> list[str]:
        result = []
        for device in self.spec.devices:
            status = _device(device.host_path)
            kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
            result.append(f"{kind} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)} {device.permissions}")
        return result

    def root(self) -> None:
        """Mount the layers, with the write layer above."""
        b, context = self.builder, self.context
        directory = context.directory
        flags = C.PYC_OP_USERXATTR if context.rootless else 0
        if self.spec.auto_remove:
            flags |= C.PYC_OP_VOLATILE
        self.host_overlays(flags)
        root = context.host.overlays[0].lowers if context.host is not None else ("base",)
        lowers = b.list([*context.lowers, *root])
        b.op(C.PYC_OP_OVERLAY, flags, a=lowers, b=b.text(f"{directory}/upper"), c=b.text(f"{directory}/work"))

    def host_overlays(self, flags: int) -> None:
        """Mount an overlay over each of the host's own directories; the root's own comes after them."""
        b, host = self.builder, self.context.host
        self._subroots: list[tuple[str, int]] = []
        if host is None:
            return
        slot = C.PYC_FDS_MAX
        for overlay in host.overlays[1:]:
            lowers = [
                f"binds/{self.attach(path, recursive=False)}" if path.startswith("/") else path for path in overlay.lowers
            ]
            slot -= 1
            directory = self.context.directory
            b.op(C.PYC_OP_OVERLAY, flags, slot=slot, a=b.list(lowers), b=b.text(f"{directory}/upper/{overlay.target}"),
                 c=b.text(f"{directory}/work-{overlay.target}"))
            self._subroots.append((overlay.target, slot))

    def host_places(self) -> None:
        """Put the host's directories in place."""
        b = self.builder
        for target, slot in self._subroots:
            b.op(C.PYC_OP_SUBROOT, slot=slot, b=b.text(target))
        for path, slot in self._host_binds:
            b.op(C.PYC_OP_BIND, slot=slot, b=b.text(path), x=_RDONLY)

    def attach(self, path: str, *, is_file: bool = False, create: bool = False, recursive: bool = True,
               propagation: str = "") -> int:
        """Ask for a path of the host's; returns its slot. Mounts below it stay on their side unless `propagation` says so."""
        slot = len(self.sources)
        if slot >= C.PYC_FDS_MAX - 8:
            raise InvalidSpec(f"volumes: more than {C.PYC_FDS_MAX - 8} binds are not possible")
        self.sources.append(Source(slot, path, create, recursive))
        spread = _PROPAGATION.get(propagation)
        if spread is None:
            known = ", ".join(filter(None, _PROPAGATION))
            raise InvalidSpec(f"volumes: propagation must be one of {known}: got {propagation!r}")
        self.builder.op(C.PYC_OP_ATTACH, C.PYC_OP_IS_FILE if is_file else 0, slot=slot, a=self.builder.text(path), x=spread)
        return slot

    # -- the child's half -------------------------------------------------------------------------------------------------

    def kernel_mounts(self) -> None:
        """Mount /proc, /dev, /sys and what lies below them."""
        b, spec, rootless = self.builder, self.spec, self.context.rootless
        host = C.PYC_OP_HOST_DEVICES
        b.op(C.PYC_OP_MOUNT, host if rootless else 0, a=b.text("proc"), b=b.text("/proc"), x=_NOSUID | _NODEV | _NOEXEC)
        for name, value in spec.sysctls:
            _check_sysctl(name, spec)
            b.op(C.PYC_OP_SYSCTL, a=b.text("sys/" + name.replace(".", "/")), b=b.text(value))
        b.op(C.PYC_OP_DEVICES, host if rootless else 0)
        size = spec.shm_size if spec.shm_size else _SHM_SIZE
        b.op(C.PYC_OP_MOUNT, a=b.text("tmpfs"), b=b.text("/dev/shm"), c=b.list(["mode=1777", f"size={size}"]),
             x=_NOSUID | _NODEV | _NOEXEC)
        b.op(C.PYC_OP_MOUNT, C.PYC_OP_OPTIONAL, a=b.text("mqueue"), b=b.text("/dev/mqueue"), x=_NOSUID | _NODEV | _NOEXEC)
        restrict = _NOSUID | _NODEV | _NOEXEC | (0 if spec.privileged else _RDONLY)
        b.op(C.PYC_OP_MOUNT, host if rootless else 0, a=b.text("sysfs"), b=b.text("/sys"), x=restrict)
        if self.layout.unified >= 0 and self.layout.version == "2" and not rootless:
            b.op(C.PYC_OP_MOUNT, C.PYC_OP_OPTIONAL, a=b.text("cgroup2"), b=b.text("/sys/fs/cgroup"), x=restrict)
        for device in spec.devices:
            status = _device(device.host_path)
            b.op(C.PYC_OP_DEVICE, host if rootless else 0, a=b.text(device.host_path), b=b.text(device.container_path),
                 x=status.st_mode, y=status.st_rdev)
        if spec.privileged and not rootless:
            for name in sorted(os.listdir("/dev")):
                path = f"/dev/{name}"
                status = os.lstat(path)
                if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                    b.op(C.PYC_OP_DEVICE, a=b.text(path), b=b.text(path), x=status.st_mode, y=status.st_rdev)

    def files(self) -> None:
        """Give the container its own hosts, hostname and resolv.conf."""
        b = self.builder
        for target, content in (("/etc/hosts", self._hosts()), ("/etc/hostname", self.hostname + "\n"),
                                ("/etc/resolv.conf", self._resolver())):
            b.op(C.PYC_OP_FILE, C.PYC_OP_OPTIONAL, a=b.text(target), b=b.text(content))

    def _hosts(self) -> str:
        if self.spec.network == "host":
            try:
                with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
                    base = file.read().replace("\0", "")
            except OSError:
                base = ""
            base = base if not base or base.endswith("\n") else base + "\n"
        else:
            base = ("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
                    "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
        return base + "".join(f"{address}\t{name}\n" for name, address in self.spec.extra_hosts)

    def _resolver(self) -> str:
        spec = self.spec
        lines = []
        if not (spec.dns and spec.dns_search and spec.dns_options):
            try:
                with open("/etc/resolv.conf", encoding="utf-8", errors="surrogateescape") as file:
                    lines = file.read().replace("\0", "").splitlines()
            except OSError:
                lines = []
        for option, values, joined in (("nameserver", spec.dns, False), ("search", spec.dns_search, True),
                                       ("options", spec.dns_options, True)):
            if values:
                lines = [line for line in lines if not line.startswith(option)]
                lines += [f"{option} {' '.join(values)}"] if joined else [f"{option} {value}" for value in values]
        return "".join(line + "\n" for line in lines) or "\n"

    def mounts(self) -> None:
        """Bind what the caller and the image ask for; parents before children."""
        b = self.builder
        taken = {mount.target for mount in self.spec.volumes}
        mounts = [*self.spec.volumes, *(Mount(type="volume", target=target) for target in self.context.config.volumes
                                        if target not in taken and target.startswith("/"))]
        for mount in sorted(mounts, key=lambda m: os.path.normpath(m.target).count("/")):
            attrs = _RDONLY if mount.read_only else 0
            if mount.type == "tmpfs":
                options = [f"size={mount.size}"] if mount.size else []
                options.append(f"mode={mount.mode if mount.mode is not None else 0o1777:o}")
                attrs |= _NOSUID | _NODEV | _NOEXEC
                for option in mount.options:
                    attrs, options = _tmpfs_option(option, attrs, options)
                b.op(C.PYC_OP_MOUNT, a=b.text("tmpfs"), b=b.text(mount.target), c=b.list(options), x=attrs)
            elif mount.type == "bind":
                slot, is_file = self._bound[mount]
                b.op(C.PYC_OP_BIND, C.PYC_OP_IS_FILE if is_file else 0, slot=slot, b=b.text(mount.target), x=attrs)
            elif mount.source:
                raise Unsupported(
                    f"backend native lacks named volumes ({mount.source!r}): bind a directory, by an absolute path"
                )

    def attach_binds(self) -> None:
        """Ask for the sources of binds: in the supervisor's half, before the root is made."""
        self._bound: dict[Mount, tuple[int, bool]] = {}
        host = self.context.host
        self._host_binds = [(path, self.attach(path)) for path in host.binds] if host is not None else []
        for mount in self.spec.volumes:
            if mount.type == "bind":
                path = os.path.abspath(os.path.expanduser(mount.source))
                try:
                    is_file = not stat.S_ISDIR(os.stat(path).st_mode)
                except FileNotFoundError:
                    if not mount.create:
                        raise InvalidSpec(
                            f'invalid mount config for type "bind": bind source path does not exist: {path}'
                        ) from None
                    is_file = False
                except OSError as error:
                    raise InvalidSpec(f"volumes: the bind source {path!r} can't be used: {error.strerror}") from error
                slot = self.attach(path, is_file=is_file, create=mount.create, propagation=mount.propagation)
                self._bound[mount] = slot, is_file

    def finish(self, security: _Security, joins: list[int]) -> None:
        """Mask paths, set names and limits."""
        b, spec = self.builder, self.spec
        for path in self.context.host.masked if self.context.host is not None else ():
            b.op(C.PYC_OP_MASK, C.PYC_OP_OPTIONAL, a=b.text(path))
        for path in security.masked:
            b.op(C.PYC_OP_MASK, a=b.text(path))
        for path in security.read_only:
            b.op(C.PYC_OP_READONLY, a=b.text(path))
        if spec.uts != "host":
            b.op(C.PYC_OP_HOSTNAME, a=b.text(self.hostname))
            if spec.domainname:
                b.op(C.PYC_OP_DOMAINNAME, a=b.text(spec.domainname))
        workdir = spec.workdir or self.context.config.workdir
        if workdir and workdir != "/":
            b.op(C.PYC_OP_MKDIR, a=b.text(workdir))
        for limit in spec.ulimits:
            number = _LIMITS.get(limit.name)
            if number is None:
                raise InvalidSpec(f"ulimits: unknown limit {limit.name!r}; see setrlimit(2)")
            b.op(C.PYC_OP_LIMIT, slot=number, a=b.text(limit.name), x=limit.soft % (1 << 64), y=limit.hard % (1 << 64))
        if spec.oom_score_adj is not None:
            b.op(C.PYC_OP_OOM_SCORE, a=b.text(str(spec.oom_score_adj)))
        if spec.read_only:
            b.op(C.PYC_OP_READONLY)


#: Stands for a container's id in a template: as long, and in no user's text.
_TOKEN = "\x7fid" + "\x7f" * 61
_TEMPLATES_MAX = 256
_templates: OrderedDict[object, Planned] = OrderedDict()
_EVENT_AT = 9 * 4
#: A supervisor's event line has room for this much.
_EVENT_MAX = 1700


def _guarded(spec: ContainerSpec, layout: cgroups.Layout, rootless: bool) -> bool:
    """Tell whether device nodes that a container makes or brings along are harmless: by its cgroup, or as no user's root."""
    return rootless or spec.privileged or layout.slot("devices") >= 0 or layout.unified >= 0


def _capabilities(spec: ContainerSpec, layout: cgroups.Layout, rootless: bool) -> frozenset[str]:
    capabilities = capabilities_of(spec)
    if _guarded(spec, layout, rootless) or "MKNOD" not in capabilities:
        return capabilities
    if any(name.upper().removeprefix("CAP_") == "MKNOD" for name in spec.cap_add):
        raise Unsupported("backend native lacks cap_add MKNOD here: no cgroup limits what devices a container may open")
    return capabilities - {"MKNOD"}


def plan_container(spec: ContainerSpec, context: Context) -> Planned:
    """Return a container's plan. Raises `InvalidSpec` and `Unsupported` for what can't be done here.

    Plans of the same spec differ in ids and names only: most are filled into a template that was made before.
    """
    key = _template_key(spec, context)
    template = _templates.get(key) if key is not None else None
    if template is None:
        directory = f"containers/{_TOKEN[:2]}/{_TOKEN}"
        cgroup = context.cgroup.replace(context.id, _TOKEN)
        template = _plan(spec, evolve(context, id=_TOKEN, directory=directory, cgroup=cgroup))
        if key is not None:
            _templates[key] = template
            if len(_templates) > _TEMPLATES_MAX:
                with suppress(KeyError):
                    _templates.popitem(last=False)
    return _filled(template, context)


def _template_key(spec: ContainerSpec, context: Context) -> object:
    """Return what a template depends on; None where the machine's own state goes into the plan."""
    if spec.volumes or spec.devices or spec.privileged or spec.security_opt or spec.uts == "host" or context.host is not None:
        return None
    return (spec, context.lowers, context.config, context.rootless, context.single_id, context.cache, context.cgroup[:8],
            cgroups.layout(), _mtime("/etc/resolv.conf"), _mtime("/etc/hosts") if spec.network == "host" else 0)


def _mtime(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _filled(template: Planned, context: Context) -> Planned:
    data = template.data.replace(f"containers/{_TOKEN[:2]}/{_TOKEN}".encode(), context.directory.encode())
    data = data.replace(_TOKEN.encode(), context.id.encode()).replace(_TOKEN[:12].encode(), context.id[:12].encode())
    event = _event(context).encode("utf-8", "surrogateescape")
    filled = bytearray(data[:-1] + event + b"\0\0")
    struct.pack_into("=I", filled, 4, len(filled))
    struct.pack_into("=I", filled, _EVENT_AT, len(data) - 1)
    return Planned(data=bytes(filled), sources=template.sources, full=template.full, new_network=template.new_network,
                   flags=template.flags)


def _plan(spec: ContainerSpec, context: Context) -> Planned:
    _refuse(spec, context)
    config = context.config
    planner = _Planner(spec, context)
    capabilities = _capabilities(spec, planner.layout, context.rootless)
    security = _security(spec, capabilities, context.cache)
    joins = planner.cgroups()
    planner.attach_binds()
    planner.root()
    b = planner.builder
    b.op(C.PYC_OP_CHILD)
    for slot in joins:
        b.op(C.PYC_OP_CGROUP_JOIN, slot=slot)
    b.op(C.PYC_OP_ROOT, x=0 if _guarded(spec, planner.layout, context.rootless) else _NODEV)
    planner.host_places()
    planner.kernel_mounts()
    planner.files()
    planner.mounts()
    planner.finish(security, joins)
    clone = _NEWNS
    for value, flag in ((spec.pid, _NEWPID), (spec.ipc, _NEWIPC), (spec.uts, _NEWUTS)):
        if value != "host":
            clone |= flag
    if spec.network != "host":
        clone |= _NEWNET
    if spec.cgroupns != "host" and planner.layout.hierarchies:
        clone |= _NEWCGROUP
    process = ProcessPlan(
        argv=effective_argv(spec, config),
        env=effective_environment(spec, config, planner.hostname),
        user=spec.user if spec.user is not None else config.user,
        groups=spec.group_add,
        workdir=spec.workdir or config.workdir or "/",
        path=_path_of(effective_environment(spec, config, planner.hostname)),
        flags=_process_flags(spec, security, context),
        filter=security.filter,
        capabilities=capability_mask(capabilities), bounding=capability_mask(capabilities))
    flags = _plan_flags(spec, process.flags, capabilities)
    health = effective_health(spec, config)
    head = PlanHead(
        flags=flags, clone_flags=clone,
        stop_signal=parse_signal(spec.stop_signal or config.stop_signal or "SIGTERM"),
        restart={"no": 0, "always": 1, "unless-stopped": 2, "on-failure": 3}[spec.restart.name],
        restart_limit=spec.restart.retries, cgroup=context.cgroup,
        **_health_times(health))
    data = b.build(head, process, _health_process(health, process, config) if health else None)
    full = bool(capabilities - set(DEFAULT_CAPABILITIES))
    return Planned(data=data, sources=tuple(planner.sources), full=full, new_network=bool(clone & _NEWNET), flags=flags)


def plan_exec(spec: ExecSpec, container: ContainerSpec, context: Context, rows: int = 0, columns: int = 0) -> bytes:
    """Return the plan of an exec in a container."""
    own = evolve(container, privileged=True) if spec.privileged else container
    capabilities = _capabilities(own, cgroups.layout(), context.rootless)
    security = _security(own, capabilities, context.cache)
    hostname = container.hostname or context.id[:12]
    merged = dict(item.split("=", 1) for item in effective_environment(container, context.config, hostname))
    if spec.tty:
        merged.setdefault("TERM", "xterm")
    elif not container.tty:
        merged.pop("TERM", None)
    merged.update(spec.environment)
    env = tuple(f"{name}={value}" for name, value in merged.items())
    user = spec.user if spec.user is not None else container.user if container.user is not None else context.config.user
    _refuse_users(user, (), context)
    process = ProcessPlan(
        argv=spec.command, env=env, user=user, groups=container.group_add,
        workdir=spec.workdir or container.workdir or context.config.workdir or "/", path=merged.get("PATH", PATH),
        flags=(_process_flags(container, security, context) & ~(C.PYC_PLAN_INIT | C.PYC_PLAN_TTY))
        | (C.PYC_PLAN_TTY if spec.tty else 0),
        filter=security.filter, rows=rows, columns=columns,
        capabilities=capability_mask(capabilities), bounding=capability_mask(capabilities))
    builder = PlanBuilder()
    planner = _Planner(container, context)
    for slot in planner.cgroups():
        builder.op(C.PYC_OP_CGROUP_JOIN, slot=slot)
    flags = _plan_flags(container, process.flags, capabilities)
    return builder.build(PlanHead(flags=flags, cgroup=context.cgroup), process)


def limit_writes(spec: object) -> list[tuple[str, str, str, bool]]:
    """Return (controller, v1 file, value, optional) for the limits of a spec or an update."""
    result = []
    memory = getattr(spec, "memory", None)
    swap = getattr(spec, "memory_swap", None)
    if memory:
        result.append(("memory", "memory.limit_in_bytes", str(memory), False))
        # Docker: twice the memory unless told otherwise; a kernel without swap accounting lacks the file.
        total = swap if swap else memory * 2 if memory > 0 else -1
        result.append(("memory", "memory.memsw.limit_in_bytes", str(total), not swap))
    if getattr(spec, "memory_reservation", None):
        result.append(("memory", "memory.soft_limit_in_bytes", str(spec.memory_reservation), False))  # type: ignore[attr-defined]
    if getattr(spec, "oom_kill_disable", False):
        result.append(("memory", "memory.oom_control", "1", False))
    cpus = getattr(spec, "cpus", None)
    if cpus:
        count = os.cpu_count() or 1
        if not 0.01 <= cpus <= count:
            raise InvalidSpec(f"cpus: {cpus} is too {'few' if cpus < 1 else 'many'}: Range of CPUs is from 0.01 to {count}.00, "
                              f"as there are only {count} CPUs available")
        result += [("cpu", "cpu.cfs_period_us", "100000", False), ("cpu", "cpu.cfs_quota_us", str(int(cpus * 100000)), False)]
    period, quota = getattr(spec, "cpu_period", None), getattr(spec, "cpu_quota", None)
    if period:
        result.append(("cpu", "cpu.cfs_period_us", str(period), False))
    if quota:
        result.append(("cpu", "cpu.cfs_quota_us", str(quota), False))
    if getattr(spec, "cpu_shares", None):
        result.append(("cpu", "cpu.shares", str(spec.cpu_shares), False))  # type: ignore[attr-defined]
    for option, file in (("cpuset_cpus", "cpuset.cpus"), ("cpuset_mems", "cpuset.mems")):
        if getattr(spec, option, None):
            result.append(("cpuset", file, getattr(spec, option), False))
    pids = getattr(spec, "pids_limit", None)
    if pids:
        result.append(("pids", "pids.max", "max" if pids < 0 else str(pids), False))
    if getattr(spec, "blkio_weight", None):
        result.append(("blkio", "blkio.weight", str(spec.blkio_weight), False))  # type: ignore[attr-defined]
    return result


def unified_file(file: str, value: str, memory: int | None) -> tuple[str, str]:
    """Return v2's file and value for v1's (Documentation/admin-guide/cgroup-v2.rst); v2 counts swap without `memory`."""
    if file == "memory.memsw.limit_in_bytes" and value != "-1":
        value = str(max(0, int(value) - (memory or 0)))
    maximum = "max" if value == "-1" else value
    if file == "cpu.shares":
        # crun's and runc's conversion, from 2..262144 to 1..10000.
        return "cpu.weight", str(1 + ((int(value) - 2) * 9999) // 262142)
    if file == "cpu.cfs_quota_us":
        return "cpu.max", maximum  # The period stays.
    if file == "cpu.cfs_period_us":
        return "cpu.max", f"max {value}"
    names = {"memory.limit_in_bytes": "memory.max", "memory.memsw.limit_in_bytes": "memory.swap.max",
             "memory.soft_limit_in_bytes": "memory.low", "blkio.weight": "io.weight"}
    return names.get(file, file), maximum


def effective_health(spec: ContainerSpec, config: ImageConfig) -> HealthCheck | None:
    """Return the health check that holds, None for none."""
    health = spec.healthcheck or config.healthcheck
    if health is None or not health.test or health.test[0] == "NONE":
        return None
    return health


def _health_process(health: HealthCheck, process: ProcessPlan, config: ImageConfig) -> ProcessPlan:
    kind, *rest = health.test
    argv = tuple(rest) if kind == "CMD" else (*(config.shell or ("/bin/sh", "-c")), *rest)
    return evolve(process, argv=argv, flags=process.flags & ~(C.PYC_PLAN_INIT | C.PYC_PLAN_TTY))


def _health_times(health: HealthCheck | None) -> dict[str, Any]:
    if health is None:
        return {}
    return {"health_interval": int((health.interval or 30) * 1e9), "health_timeout": int((health.timeout or 30) * 1e9),
            "health_start_period": int(health.start_period * 1e9), "health_start_interval": int(health.start_interval * 1e9),
            "health_retries": health.retries or 3}


def _process_flags(spec: ContainerSpec, security: _Security, context: Context) -> int:
    flags = 0
    if spec.init:
        flags |= C.PYC_PLAN_INIT
    if spec.tty:
        flags |= C.PYC_PLAN_TTY
    if security.no_new_privileges:
        flags |= C.PYC_PLAN_NO_NEW_PRIVS
    if context.single_id:
        flags |= C.PYC_PLAN_NO_SETGROUPS
    return flags


def _plan_flags(spec: ContainerSpec, flags: int, capabilities: frozenset[str]) -> int:
    for on, flag in ((spec.stdin_open, C.PYC_PLAN_STDIN_OPEN), (spec.stdin_once, C.PYC_PLAN_STDIN_ONCE),
                     (spec.auto_remove, C.PYC_PLAN_AUTO_REMOVE), (spec.lifetime == "process", C.PYC_PLAN_OWNED),
                     (spec.pid == "host", C.PYC_PLAN_HOST_PID), ("SYS_PTRACE" in capabilities, C.PYC_PLAN_TRACEABLE),
                     (spec.tty, C.PYC_PLAN_TTY)):
        if on:
            flags |= flag
    return flags


def _path_of(env: tuple[str, ...]) -> str:
    return next((item[5:] for item in env if item.startswith("PATH=")), PATH)


def _event(context: Context) -> str:
    def clean(text: str) -> str:
        return text.replace("\t", " ").replace("\n", " ")
    pairs = (("image", context.image), ("name", context.name), *context.labels)
    return "\t".join(f"{clean(name)}={clean(value)}" for name, value in pairs)[:_EVENT_MAX]


def _check_sysctl(name: str, spec: ContainerSpec) -> None:
    """Refuse a sysctl that is the whole machine's: it would outlive the container and change its neighbours."""
    plain = name.replace("/", ".")
    if ".." in plain or plain.startswith(".") or not plain.strip("."):
        raise InvalidSpec(f"sysctls: {name!r} is no sysctl")
    for own, inside, option in ((spec.ipc != "host", plain in _IPC_SYSCTLS or plain.startswith("fs.mqueue."), "ipc"),
                                (spec.network != "host", plain.startswith("net."), "network"),
                                (spec.uts != "host", plain == "kernel.domainname", "uts")):
        if inside:
            if own:
                return
            raise InvalidSpec(f"sysctls: {name!r} is the host's own with {option}=\"host\"")
    raise InvalidSpec(f"sysctls: {name!r} is not in a namespace of the container's: setting it would change the host")


def _device(path: str) -> os.stat_result:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InvalidSpec(f"devices: {path!r} can't be used: {error.strerror}") from error
    if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
        raise InvalidSpec(f"devices: {path!r} is no device")
    return status


def _tmpfs_option(option: str, attrs: int, options: list[str]) -> tuple[int, list[str]]:
    flags = {"ro": _RDONLY, "nosuid": _NOSUID, "nodev": _NODEV, "noexec": _NOEXEC}
    clears = {"rw": _RDONLY, "suid": _NOSUID, "dev": _NODEV, "exec": _NOEXEC}
    if option in flags:
        return attrs | flags[option], options
    if option in clears:
        return attrs & ~clears[option], options
    name = option.partition("=")[0]
    if name not in ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"):
        raise InvalidSpec(f"tmpfs: unknown option {option!r}")
    return attrs, [o for o in options if o.partition("=")[0] != name] + [option]


def _refuse(spec: ContainerSpec, context: Context) -> None:
    """Refuse what this backend can't do, before anything is made."""
    if spec.network not in ("default", "none", "host"):
        raise Unsupported(f"backend native lacks network {spec.network!r}: it has none and host")
    if any(port.host_port is not None for port in spec.ports) or spec.publish_all:
        raise Unsupported("backend native lacks published ports: it has the networks none and host")
    for option in ("pid", "ipc", "uts", "cgroupns"):
        value = getattr(spec, option)
        if value not in ("", "host", "private", "shareable"):
            raise Unsupported(f"backend native lacks {option}={value!r}: it has its own and host")
    if spec.uts == "host" and spec.hostname:
        raise InvalidSpec("conflicting options: hostname and the UTS mode")
    _refuse_users(spec.user if spec.user is not None else context.config.user, spec.group_add, context)


def _refuse_users(user: str, groups: Sequence[str], context: Context) -> None:
    if context.single_id and not is_root(user):
        raise Unsupported(f"backend native lacks user {user!r} here: {RANGES_REMEDY}")
    if context.single_id and groups:
        raise Unsupported(f"backend native lacks group_add {', '.join(groups)} here: {RANGES_REMEDY}")

