"""The words of the policy language: names of documents and rules, and how ports are written.

Promises that a name that passes holds nothing but lower-case letters, digits, ``-`` and ``.``, so that it can stand
in any text (nft's, a path, a shell) as it is.
"""

import re

from stockade.core.model.net import LAST_PORT, PORTED, Ports, Protocol
from stockade.core.policy.report import listed, nearest

NAME_LIMIT = 63

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
NAME_WORDS = f"a name: lower-case letters, digits, - and ., at most {NAME_LIMIT}, a letter or digit at both ends"

_ICMP_TYPES = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "source-quench": 4,
    "redirect": 5,
    "echo-request": 8,
    "router-advertisement": 9,
    "router-solicitation": 10,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
    "info-request": 15,
    "info-reply": 16,
    "address-mask-request": 17,
    "address-mask-reply": 18,
}
_ICMPV6_TYPES = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "mld-listener-done": 132,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
    "router-renumbering": 138,
    "mld2-listener-report": 143,
}
ICMP_TYPES = {Protocol.ICMP: _ICMP_TYPES, Protocol.ICMPV6: _ICMPV6_TYPES}
"""ICMP types by the names that nftables gives them (IANA's registries)."""

PROTOCOLS = {protocol.name.lower(): protocol for protocol in Protocol}
"""The protocols by the word that policy writes; none of them may be the name of a service."""

PORTS_WORDS = "tcp/8080, tcp/9090-9100, udp/53, sctp/2905, icmp/echo-request, icmpv6/128, a protocol or any"

_NUMBER = re.compile(r"[0-9]{1,5}")


def name_like(text: str) -> str:
    """Return the valid name that is nearest to a text, or an empty text."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())[:NAME_LIMIT].strip("-.")


def is_name(text: str) -> bool:
    """Tell whether a document or rule may be called this."""
    return len(text) <= NAME_LIMIT and NAME.fullmatch(text) is not None


class WordError(ValueError):
    """What is wrong with a text, what was expected, the nearest valid spelling."""

    def __init__(self, message: str, expected: str = PORTS_WORDS, near: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.nearest = near


def ports_of(text: str) -> Ports:
    """Read ports as policy writes them (``tcp/80``, ``icmp/echo-request``, ``any``). Raises ``WordError``."""
    word, slash, rest = text.partition("/")
    protocol = PROTOCOLS.get(word)
    if protocol is None:
        raise _no_protocol(text, word, slash, rest)
    if not slash:
        return Ports(protocol)
    if protocol is Protocol.ANY:
        raise WordError("any means every protocol and port; it takes none", near="any")
    return _ported(protocol, rest) if protocol in PORTED else _icmp(protocol, rest)


def ports_text(ports: Ports) -> str:
    """Return ports as policy writes them: ``ports_of(ports_text(p)) == p``."""
    word = ports.protocol.name.lower()
    if (ports.first, ports.last) == (0, LAST_PORT):
        return word
    if ports.protocol in PORTED:
        return f"{word}/{ports.first}" + (f"-{ports.last}" if ports.last != ports.first else "")
    kind, code = divmod(ports.first, 256)
    if ports.first == ports.last:
        return f"{word}/{kind}/{code}"
    names = {number: name for name, number in ICMP_TYPES[ports.protocol].items()}
    return f"{word}/{names.get(kind, kind)}"


def _no_protocol(text: str, word: str, slash: str, rest: str) -> WordError:
    if _NUMBER.fullmatch(text):
        return WordError("a port needs its protocol", near=f"tcp/{text}")
    if slash and _NUMBER.fullmatch(word) and rest.lower() in PROTOCOLS:
        return WordError("the protocol comes first", near=f"{rest.lower()}/{word}")
    near = nearest(word, list(PROTOCOLS))
    return WordError(f'unknown protocol "{word}"', near=f"{near}{slash}{rest}" if near else "")


def _ported(protocol: Protocol, rest: str) -> Ports:
    first, dash, last = rest.partition("-")
    numbers = [_port(first), _port(last)] if dash else [_port(first)] * 2
    if numbers[0] > numbers[1]:
        near = f"{protocol.name.lower()}/{numbers[1]}-{numbers[0]}"
        raise WordError("this range ends before it begins", near=near)
    return Ports(protocol, *numbers)


def _port(text: str) -> int:
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= LAST_PORT:
        raise WordError(f'"{text}" is not a port', f"a number from 1 to {LAST_PORT}")
    return int(text)


def _icmp(protocol: Protocol, rest: str) -> Ports:
    """Read a type by name or number, and optionally a code."""
    named, slash, code = rest.partition("/")
    types = ICMP_TYPES[protocol]
    kind = types[named] if named in types else _byte(named, "type", types)
    if slash:
        point = kind * 256 + _byte(code, "code", {})
        return Ports(protocol, point, point)
    return Ports(protocol, kind * 256, kind * 256 + 255)


def _byte(text: str, what: str, names: dict[str, int]) -> int:
    if _NUMBER.fullmatch(text) and int(text) <= 255:
        return int(text)
    expected = listed(["a number up to 255", *names])
    raise WordError(f'"{text}" is no ICMP {what}', expected, nearest(text, list(names)))
