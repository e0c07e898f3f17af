"""Styles, scripts and pictures: read once, served under names that hold their hash, to be kept for ever."""

import hashlib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import msgspec

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


class Asset(msgspec.Struct, frozen=True):
    """One file: the path that it is served under, what it is, what it says."""

    path: str
    media: str
    content: bytes


@cache
def assets() -> dict[str, Asset]:
    """Return every asset by its plain name. Third-party scripts are there where set-up has fetched them."""
    folder = files("stockade.web") / "static"
    found = [*_in(folder), *_in(folder / "vendor")]
    return {each.name: _asset(each.name, each.read_bytes()) for each in found}


@cache
def by_path() -> dict[str, Asset]:
    """Return every asset by the path that it is served under."""
    return {each.path: each for each in assets().values()}


def _in(folder: Traversable) -> list[Traversable]:
    if not folder.is_dir():
        return []
    return sorted((each for each in folder.iterdir() if _suffix(each.name) in TYPES), key=lambda each: each.name)


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _asset(name: str, content: bytes) -> Asset:
    suffix = _suffix(name)
    stem = name.removesuffix(suffix)
    return Asset(f"/static/{stem}.{hashlib.sha256(content).hexdigest()[:16]}{suffix}", TYPES[suffix], content)
