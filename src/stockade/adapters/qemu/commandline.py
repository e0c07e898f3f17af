"""QEMU's command line, as far as it tells who a guest is and which MAC is behind which tap. Pure.

Both of QEMU's spellings are read: ``key=value,…`` (a comma in a value is doubled) and JSON. What cannot be read is
passed over: what is missing is then learnt from the link, or not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from stockade.decoding import ready

PROGRAMS = ("qemu-system-", "qemu-kvm", "kvm")
"""How the names of the processes begin that are virtual machines."""
DEFAULT_MAC = "52:54:00:12:34:"
FIRST_DEFAULT = 0x56
"""QEMU numbers the cards that were given no MAC, from 52:54:00:12:34:56 on."""


class Card(msgspec.Struct, frozen=True):
    """A network card: its MAC, and the tap behind it by name or by the numbers of QEMU's descriptors."""

    mac: str
    tap: str = ""
    fds: tuple[int, ...] = ()


class Told(msgspec.Struct, frozen=True):
    """What a command line tells."""

    name: str = ""
    uuid: str = ""
    cards: tuple[Card, ...] = ()


def read(words: Sequence[str]) -> Told:
    """Read the words of a command line, the program first."""
    options = list(_options(words))
    names = [_fields(value, "guest") for option, value in options if option == "name"]
    uuids = [value.lower() for option, value in options if option == "uuid"]
    return Told(
        name=names[-1].get("guest", "") if names else "",
        uuid=uuids[-1] if uuids else "",
        cards=tuple(_cards(options)),
    )


def is_machine(program: str) -> bool:
    """Tell whether a process's short name is that of a virtual machine."""
    return program == "kvm" or program.startswith(PROGRAMS[:2])


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for option, value in pairwise([*words[1:], ""]):
        if option.startswith("-"):
            yield option.lstrip("-"), value


def _fields(value: str, first: str) -> dict[str, str]:
    """Return the fields of an option's value; ``first`` is what a field without a name is."""
    if value.startswith("{"):
        try:
            told = msgspec.json.decode(value, type=ready(dict[str, object]))
        except msgspec.DecodeError:
            return {}
        return {name: str(each) for name, each in told.items() if isinstance(each, str | int)}
    found = {}
    for place, field in enumerate(value.replace(",,", "\0").split(",")):
        name, given, rest = field.replace("\0", ",").partition("=")
        if given:
            found[name] = rest
        elif place == 0:
            found[first] = name
    return found


def _cards(options: Sequence[tuple[str, str]]) -> Iterator[Card]:
    """Yield the cards with a tap, in QEMU's order: first those of ``-device``, then those of ``-nic`` and ``-net``."""
    taps, devices, nics = {}, [], []
    for option, value in options:
        if option == "netdev" and (fields := _fields(value, "type")).get("type") == "tap":
            taps[fields.get("id", "")] = fields
        elif option == "device" and (fields := _fields(value, "driver")).get("netdev"):
            devices.append(fields)
        elif option == "nic" and (fields := _fields(value, "type")).get("type") == "tap":
            nics.append(fields)
    given = {each.get("mac", "").lower() for each in (*devices, *nics)}
    spare = (f"{DEFAULT_MAC}{n:02x}" for n in range(FIRST_DEFAULT, 0x100))
    unused = (mac for mac in spare if mac not in given)
    for card in (*devices, *nics):
        mac = card.get("mac", "").lower() or next(unused, "")
        tap = taps.get(card.get("netdev", "")) if "netdev" in card else card
        if tap is not None:
            yield Card(mac, tap.get("ifname", ""), tuple(_numbers(tap)))


def _numbers(tap: Mapping[str, str]) -> Iterator[int]:
    for each in (*tap.get("fds", "").split(":"), tap.get("fd", "")):
        if each.isdigit():
            yield int(each)
