"""Settings: from flags, then variables, then a file, then what is built in. Each remembers where it came from.

Never writes anything. ``docs/settings.md`` lists every one.
"""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stockade.errors import StockadeError


class Format(str, Enum):
    """How data is written to stdout."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Flags that every verb takes."""

    output: Annotated[Format | None, Parameter(name=["--output", "-o"], help="table, json or yaml.")] = None
    state: Annotated[Path | None, Parameter(name="--state", help="The state folder.")] = None
    socket: Annotated[Path | None, Parameter(name="--socket", help="The API's Unix socket.")] = None
    config: Annotated[Path | None, Parameter(name="--config", help="The settings file.")] = None


NO_FLAGS = Common()


@dataclass(frozen=True)
class Known:
    """A setting: its name, the variables that set it (first wins), and what it is for."""

    name: str
    variables: tuple[str, ...]
    summary: str


STATE, RUN = "/var/lib/stockade", "/run/stockade"
"""Root's own."""

SETTINGS = (
    Known("output", ("STOCKADE_OUTPUT",), "How data is written: `table`, `json` or `yaml`"),
    Known("state", ("STOCKADE_STATE",), "The folder of events, versions, audit log and socket"),
    Known("socket", ("STOCKADE_SOCKET",), "The API's Unix socket"),
    Known("run", ("STOCKADE_RUN",), "The folder of what need not outlive a boot: the gate's socket"),
    Known("docker-host", ("STOCKADE_DOCKER_HOST", "DOCKER_HOST"), "The Docker engine's socket, as `unix:///path`"),
    Known(
        "containerd-address",
        ("STOCKADE_CONTAINERD_ADDRESS", "CONTAINERD_ADDRESS"),
        "containerd's socket, as `/path` or `unix:///path`",
    ),
    Known("console", ("STOCKADE_CONSOLE",), "Where the web console listens, as `127.0.0.1:7472`; or `off`"),
    Known("flows", ("STOCKADE_FLOWS",), "Where flows are kept: a folder, a ClickHouse server's URL, or `off`"),
    Known(
        "flows-days",
        ("STOCKADE_FLOWS_DAYS",),
        "Days for which flows are kept: singly, by the minute, by the hour, as `7,30,400`",
    ),
    Known("flows-size", ("STOCKADE_FLOWS_SIZE",), "What flows may take on the disk, as `20G`; the oldest go then"),
    Known(
        "netflow",
        ("STOCKADE_NETFLOW",),
        "Where devices without an agent export flows to (NetFlow 5 and 9, IPFIX), as `192.0.2.10:2055`; or `off`",
    ),
    Known(
        "netflow-exporters",
        ("STOCKADE_NETFLOW_EXPORTERS",),
        "From which addresses or prefixes they may, as `192.0.2.1, 198.51.100.0/24`; others are counted and not read",
    ),
)
OFF = "off"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
DEFAULTS = {"flows-days": "7,30,400", "flows-size": "20G", "netflow": OFF, "netflow-exporters": ""}
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Value:
    """A setting's value and its origin in words: a flag, a variable, a file, or ``default``."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True)
class Settings:
    """Every setting in force."""

    values: tuple[Value, ...]

    def _of(self, name: str) -> str:
        return next(each.value for each in self.values if each.name == name)

    @property
    def output(self) -> Format:
        """How data is written to stdout."""
        return Format(self._of("output"))

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path(self._of("state"))

    @property
    def socket(self) -> Path:
        """The API's Unix socket."""
        return Path(self._of("socket"))

    @property
    def run(self) -> Path:
        """The folder of what need not outlive a boot."""
        return Path(self._of("run"))

    @property
    def docker_host(self) -> str:
        """The Docker engine's address."""
        return self._of("docker-host")

    @property
    def containerd_address(self) -> str:
        """containerd's address."""
        return self._of("containerd-address")

    @property
    def console(self) -> str:
        """Where the web console listens; without a port, at the usual one or any that is free."""
        return self._of("console")

    @property
    def flows(self) -> str:
        """Where flows are kept: a folder, a URL, or ``off``."""
        return self._of("flows")

    @property
    def flows_days(self) -> tuple[int, int, int]:
        """For how many days: singly, by the minute, by the hour."""
        raw, minute, hour = _days(next(each for each in self.values if each.name == "flows-days"))
        return raw, minute, hour

    @property
    def flows_size(self) -> int:
        """Bytes that they may take on the disk."""
        return _size(next(each for each in self.values if each.name == "flows-size"))

    @property
    def netflow(self) -> tuple[str, int] | None:
        """The address and port at which exporters are heard; None: nobody is."""
        return _listening(next(each for each in self.values if each.name == "netflow"))

    @property
    def netflow_exporters(self) -> tuple[Network, ...]:
        """Who may export."""
        return _networks(next(each for each in self.values if each.name == "netflow-exporters"))


def resolve(flags: Common = NO_FLAGS, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings in force. ``StockadeError`` where the file or a value cannot be used."""
    origin, written = _read_file(_file(flags, environment), named=_file_is_named(flags, environment))
    given = {"output": flags.output and flags.output.value, "state": flags.state, "socket": flags.socket}
    found: dict[str, Value] = {}
    for known in SETTINGS:
        found[known.name] = _one(known, given.get(known.name), environment, written, origin, found)
    _check_output(found["output"])
    _days(found["flows-days"])
    _size(found["flows-size"])
    _check_exporters(found["netflow"], found["netflow-exporters"])
    return Settings(tuple(found.values()))


def _one(
    known: Known,
    flag: object,
    environment: Mapping[str, str],
    written: Mapping[str, str],
    origin: str,
    found: Mapping[str, Value],
) -> Value:
    if flag is not None:
        return Value(known.name, str(flag), f"flag --{known.name}")
    for variable in known.variables:
        if environment.get(variable):
            return Value(known.name, environment[variable], f"variable {variable}")
    if known.name in written:
        return Value(known.name, written[known.name], origin)
    return Value(known.name, _default(known.name, environment, found), "default")


def is_root() -> bool:
    """Tell whether this is the machine's root, and not that of a user namespace."""
    mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    return os.geteuid() == 0 and mapped == ["0", "0", "4294967295"]


def _default(name: str, environment: Mapping[str, str], found: Mapping[str, Value]) -> str:
    if name == "output":
        return Format.TABLE.value
    if name == "state":
        if is_root():
            return STATE
        return str(_under_home(environment, "XDG_STATE_HOME", ".local/state") / "stockade")
    if name == "socket":
        return str(Path(found["state"].value) / "api.sock")
    if name == "run":
        return RUN if found["state"].value == STATE else found["state"].value
    if name == "flows":
        return str(Path(found["state"].value) / "flow-store")
    if name in DEFAULTS:
        return DEFAULTS[name]
    if name == "containerd-address":
        return "/run/containerd/containerd.sock"
    if name == "console":
        return "127.0.0.1"
    return "unix:///var/run/docker.sock"


def _under_home(environment: Mapping[str, str], variable: str, default: str) -> Path:
    return Path(environment.get(variable) or Path(environment.get("HOME") or "/") / default)


def _file_is_named(flags: Common, environment: Mapping[str, str]) -> bool:
    return flags.config is not None or bool(environment.get("STOCKADE_CONFIG"))


def _file(flags: Common, environment: Mapping[str, str]) -> Path:
    if flags.config is not None:
        return flags.config
    if named := environment.get("STOCKADE_CONFIG"):
        return Path(named)
    if is_root():
        return Path("/etc/stockade/stockade.toml")
    return _under_home(environment, "XDG_CONFIG_HOME", ".config") / "stockade" / "stockade.toml"


def _read_file(path: Path, *, named: bool) -> tuple[str, dict[str, str]]:
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise _bad_file(path, "it is not there") from None
        return "", {}
    except PermissionError as problem:
        # Nobody named it: with another user's HOME it is not ours to read.
        if named:
            raise _bad_file(path, problem.strerror or "it may not be read") from None
        return "", {}
    except (OSError, ValueError) as problem:
        raise _bad_file(path, str(problem)) from None
    names = {known.name for known in SETTINGS}
    for name, value in written.items():
        if name not in names:
            raise _bad_file(path, f'unknown setting "{name}" (known: {", ".join(sorted(names))})')
        if not isinstance(value, str):
            raise _bad_file(path, f'setting "{name}" must be a text in quotes')
    return f"file {path}", written


def _bad_file(path: Path, why: str) -> StockadeError:
    return StockadeError(
        f"cannot use the settings file {path}: {why}",
        kept="nothing was done",
        remedy="correct the file, or name another one with --config",
    )


def _check_output(value: Value) -> None:
    if value.value not in {each.value for each in Format}:
        raise StockadeError(
            f'unknown output format "{value.value}" ({value.origin})',
            kept="nothing was done",
            remedy="use table, json or yaml",
        )


def _days(value: Value) -> list[int]:
    """Return three numbers of days, none less than the one before."""
    parts = [part.strip() for part in value.value.split(",")]
    days = [int(part) for part in parts if part.isdecimal()]
    if len(days) != 3 or len(parts) != 3 or days != sorted(days) or not days[0]:
        raise StockadeError(
            f'"{value.value}" are no days for which flows could be kept ({value.origin})',
            kept="nothing was done",
            remedy="use three whole numbers, none less than the one before, such as 7,30,400",
        )
    return days


def _listening(value: Value) -> tuple[str, int] | None:
    """Return an address and a port; None where nobody is to be heard."""
    text = value.value.strip()
    if text.lower() == OFF:
        return None
    address, _, port = text.rpartition(":")
    try:
        at = ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        at = None
    if at is None or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise StockadeError(
            f'"{value.value}" is no address and port at which devices could be heard ({value.origin})',
            kept="nothing was done",
            remedy="use off, or an address and a port such as 192.0.2.10:2055 or [2001:db8::10]:2055",
        )
    return str(at), int(port)


def _networks(value: Value) -> tuple[Network, ...]:
    """Return addresses and prefixes."""
    parts = [part.strip() for part in value.value.split(",") if part.strip()]
    try:
        return tuple(ipaddress.ip_network(part) for part in parts)
    except ValueError as problem:
        raise StockadeError(
            f"{problem} ({value.origin})",
            kept="nothing was done",
            remedy="use addresses or prefixes with commas between them, such as 192.0.2.1, 198.51.100.0/24",
        ) from None


def _check_exporters(at: Value, allowed: Value) -> None:
    """Whoever hears devices says which: anybody who can send a packet could tell of flows."""
    if _listening(at) is not None and not _networks(allowed):
        raise StockadeError(
            f"netflow is on ({at.origin}), and no exporter is named",
            kept="nothing was done",
            remedy="name the devices in netflow-exporters (STOCKADE_NETFLOW_EXPORTERS), or set netflow to off",
        )


def _size(value: Value) -> int:
    """Return a number of bytes."""
    text = value.value.strip().upper().removesuffix("B").removesuffix("I")
    number, unit = (text[:-1], text[-1:]) if text[-1:].isalpha() else (text, "")
    if not number.isdecimal() or not int(number) or unit not in UNITS:
        raise StockadeError(
            f'"{value.value}" is no size ({value.origin})',
            kept="nothing was done",
            remedy="use a whole number of bytes, or one with K, M, G or T, such as 20G",
        )
    return int(number) * UNITS[unit]
