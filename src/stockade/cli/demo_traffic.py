"""What goes on in the demo's lab until it is ended: the shop's ordinary day, and now and then an attacker's walk.

Real connections between the lab's nodes, by a seeded rhythm: a beat of the shop's heart each second.
"""

import asyncio
from collections.abc import Iterator
from random import Random

from stockade.core.model.net import Protocol
from stockade.testing.lab import Lab
from stockade.testing.probe.values import Probe

BEAT = 1.0
"""Seconds."""
SEED = 7
TCP, UDP = Protocol.TCP, Protocol.UDP
ORDINARY = (
    ("payments", "web-1", TCP, 80, 0.6),
    ("web-1", "api-1", TCP, 8080, 0.9),
    ("web-1", "api-1", UDP, 53, 0.3),
    ("api-1", "db-1", TCP, 5432, 0.8),
    ("api-1", "payments", TCP, 443, 0.2),
)
"""Who asks whom for what, and how often a beat."""
SCRAPED, SCRAPE = ("web-1", "api-1", "db-1"), 15
"""Who is asked for metrics, each once in so many beats."""
WALK_EVERY = 90
"""Beats from one walk of the attacker's to the next. One that is refused takes longer: it waits for an answer."""
SCAN, AT_ONCE = range(6000, 6024), 8
"""The ports that a walk tries, and how many of them a beat: all are within what one look at the flows sees."""


async def goes_on(lab: Lab) -> None:
    """Make connections until cancelled."""
    random, beat = Random(SEED), 0
    while True:
        await lab.probe([*ordinary(random, beat), *walk(beat)])
        await asyncio.sleep(BEAT)
        beat += 1


def ordinary(random: Random, beat: int) -> Iterator[Probe]:
    """Yield a beat of the shop's ordinary day."""
    for source, destination, protocol, port, often in ORDINARY:
        if random.random() < often:
            yield Probe(source, destination, protocol, port)
    for at, name in enumerate(SCRAPED):
        if beat % SCRAPE == at:
            yield Probe("prometheus", name, TCP, 9100)


def walk(beat: int) -> Iterator[Probe]:
    """Yield a step of the attacker's, who holds the web server: the database, a scan, shells, and a stranger's turn."""
    match beat % WALK_EVERY:
        case 3:
            yield Probe("web-1", "db-1", TCP, 5432)
        case step if 5 <= step < 8:
            yield from (Probe("web-1", "db-1", TCP, port) for port in SCAN[(step - 5) * AT_ONCE :][:AT_ONCE])
        case 20:
            yield Probe("web-1", "db-1", TCP, 22)
            yield Probe("web-1", "api-1", TCP, 22)
        case 30:
            yield Probe("web-1", "payments", TCP, 443)
        case 40:
            yield Probe("intruder", "db-1", TCP, 5432)
            yield Probe("payments", "db-1", TCP, 5432)
        case _:
            return
