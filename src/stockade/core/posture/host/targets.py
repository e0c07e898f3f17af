"""What targets of iptables, ebtables and arptables do to a packet, by name and parameters (xt_mark.h, xt_connmark.h,
xt_CT.h). What is not here drops, accepts, counts, logs, or translates sources.
"""

import struct
from collections.abc import Iterator

from stockade.core.posture.host.facts import Act, Does

EVERY_BIT = 0xFFFFFFFF
SET, SAVE = 0, 1
"""Modes of CONNMARK; the third restores."""
TARGETS = {
    "DNAT": Does.TRANSLATES,
    "REDIRECT": Does.TRANSLATES,
    "NETMAP": Does.TRANSLATES,
    "NOTRACK": Does.UNTRACKS,
    "TEE": Does.COPIES,
    "NFQUEUE": Does.ASKS,
    "FLOWOFFLOAD": Does.OFFLOADS,
    "RAWDNAT": Does.REWRITES,
    "RAWSNAT": Does.REWRITES,
    "dnat": Does.REWRITES,
    "snat": Does.REWRITES,
    "arpreply": Does.REWRITES,
    "redirect": Does.REWRITES,
    "mangle": Does.REWRITES,
}
"""Those in small letters are ebtables' and arptables'."""


def target_acts(chain: str, name: str, info: bytes) -> Iterator[Act]:
    """Yield what a rule with this target does; ``info`` are its parameters as the kernel keeps them."""
    if name == "MARK" and len(info) >= 8:
        mark, mask = struct.unpack_from("=II", info)
        yield Act(chain, Does.MARKS, name, packet=mark | mask)
    elif name == "CONNMARK" and len(info) >= 13:
        yield _connmark(chain, *struct.unpack_from("=IIIB", info))
    elif name == "CT" and len(info) >= 2:
        if struct.unpack_from("=H", info)[0] & 1:
            yield Act(chain, Does.UNTRACKS, "CT --notrack")
    elif name in ("HMARK", "mark"):
        yield Act(chain, Does.MARKS, name, packet=EVERY_BIT)
    elif name in TARGETS:
        yield Act(chain, TARGETS[name], name)


def _connmark(chain: str, ours: int, mask: int, other: int, mode: int) -> Act:
    if mode == SET:
        return Act(chain, Does.MARKS, "CONNMARK", connection=ours | mask)
    if mode == SAVE:
        return Act(chain, Does.MARKS, "CONNMARK", connection=mask | other)
    return Act(chain, Does.MARKS, "CONNMARK", packet=mask | other)
