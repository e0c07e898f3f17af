"""containerd's configuration, edited so that all else in it stays as it was written."""

from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError

from stockade.core.gate.values import CannotEdit

PATH = "/etc/containerd/config.toml"
RESTART = ("systemctl", "restart", "containerd")
OLDEST, NEWEST = 2, 3


def read_toml(path: str, text: str | None) -> tomlkit.TOMLDocument:
    """Return a configuration of version 2 or 3; a new one of version 2, which both understand, where there is none."""
    if not text or not text.strip():
        return tomlkit.parse(f"version = {OLDEST}\n")
    try:
        found = tomlkit.parse(text)
    except ParseError as problem:
        raise CannotEdit(f"{path} is not TOML: {problem}", kept="nothing was changed", remedy="mend it first") from None
    if not OLDEST <= version(found) <= NEWEST:
        raise CannotEdit(
            f"{path} has version {version(found)}; the gate is put into versions {OLDEST} and {NEWEST}",
            kept="nothing was changed",
            remedy="containerd config migrate",
        )
    return found


def version(config: tomlkit.TOMLDocument) -> int:
    """Return which version of the format it is; 1 where it says nothing."""
    return int(config.get("version", 1))


def table(config: Any, *names: str) -> Any:
    """Return a table within tables, made where it is missing."""
    for name in names:
        if name not in config:
            config.add(name, tomlkit.table(is_super_table=name != names[-1]))
        config = config[name]
    return config


def found(config: Any, *names: str) -> Any:
    """Return a table within tables; an empty mapping where it is missing."""
    for name in names:
        config = config.get(name) or {}
    return config


def prune(config: Any, *names: str) -> None:
    """Remove a table that is empty, and then those around it that are."""
    for depth in range(len(names), 0, -1):
        outer = found(config, *names[: depth - 1])
        if names[depth - 1] in outer and not outer[names[depth - 1]]:
            outer.remove(names[depth - 1])
