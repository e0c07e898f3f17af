"""Flows: stored in the embedded ClickHouse, and asked for (``python -m bench.flows``)."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec

from bench.figures import Figure, at_least, at_most, program
from bench.world import world
from stockade.adapters.clickhouse.apart import FlowStoreApart
from stockade.adapters.clickhouse.client import connect
from stockade.adapters.clickhouse.columns import Naming, columns, packed
from stockade.adapters.clickhouse.putting import insert_flows
from stockade.adapters.clickhouse.schema import keep, migrate
from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store
from stockade.controller.clock import SystemClock
from stockade.controller.flow_files import PAGE, FlowFile, Page, written
from stockade.controller.flow_queries import flows_reply
from stockade.controller.flows import FlowIntake
from stockade.core.model.flow import Flow, FlowEnd, FlowKey, StoredFlow, Tally, Verdict
from stockade.core.model.flow_table import FlowBatch, kept, told
from stockade.core.model.ids import Address, HostId, RuleId, WorkloadId
from stockade.core.model.packet import Direction
from stockade.core.model.snapshot import Snapshot
from stockade.memory import look_rarely
from stockade.seams.flow_store import FlowFilter, FlowQuery, Retention, StoredBatch, dimension

# -- the store --------------------------------------------------------------------------------------------------------

STORED, STORED_QUICK = 8_000_000, 100_000
MADE = 2_000_000
"""Flows that are made one by one; more of them are the same between other ends."""
EDGES, EDGES_QUICK = 5_000_000, 100_000
EXPORTED = 300_000
STRANGERS, STRANGERS_QUICK = 1_000_000, 250_000
"""Addresses outside that once asked: ends that none of the flows asked for names."""
AT_ONCE, PUT = 250_000, 2
"""Flows of a batch, and batches of a put: what comes while one is being put is put together (`controller.together`)."""
ENDS_ASKED = (("app to app", ("source.app", "destination.app")), ("by source's workload", ("source.workload",)))
BATCH, HOSTS = 4_000, 32
WORKLOADS, APPS, RULES = 20_000, 200, 500
A_SECOND, A_QUERY = 500_000, 1.0
HOUR = 1_700_002_800
RETENTION = Retention(raw=10_000, minute=10_000, hour=10_000)


def main() -> None:
    """Print every figure as it is measured."""
    program(__doc__, figures)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the store's figures."""
    look_rarely()  # as the store's process does
    count = STORED_QUICK if quick else STORED
    yield from _stored(count, labelled=True)
    yield from _stored(count, labelled=False)
    yield from _stored(count // 4, labelled=True, at_once=1, together=1)
    yield from _inserted(count // 4)
    yield from _taken(count // 16)
    yield from _asked(EDGES_QUICK if quick else EDGES)


def _stored(count: int, *, labelled: bool, at_once: int = PUT, together: int = 2) -> Iterator[Figure]:
    """Put flows: what is timed is all of ``put``, from hosts' columns to parts on the disk, with what is merged on."""
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        store = open_flow_store(Path(folder), retention=RETENTION)
        first, *batches = _batches(count + AT_ONCE, labelled=labelled)
        puts = [batches[place : place + at_once] for place in range(0, len(batches), at_once)]
        store.put([first])  # libraries load when they are first needed
        began = time.perf_counter()
        with ThreadPoolExecutor(together) as putting:
            list(putting.map(store.put, puts))
        took = time.perf_counter() - began
        name = f"flows stored, {'six labels at each end' if labelled else 'no labels'}"
        how = f"{count:,}, {at_once} batches of {AT_ONCE:,} a put, roll-ups and merges included"
        if together > 1:
            yield at_least(name, count / took, "flows/s", A_SECOND, f"{how}; {together} puts at once")
        else:
            yield Figure(f"{name}, one put after the other", count / took, "flows/s", compared_with=how)
        store.close()


def _taken(count: int) -> Iterator[Figure]:
    """Take batches as hosts send them, several hosts at once: from what a host says to its acknowledgement.

    What is timed is all of it: to name every end, to hand the batch to the store's process, and what that does.
    """
    snapshot = world(WORKLOADS, WORKLOADS // 10)
    batches = list(_told(snapshot, count))
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        store = FlowStoreApart(Path(folder), retention=RETENTION)
        intake = FlowIntake(store, SystemClock())
        first, *others = batches
        intake.take(first, snapshot)
        began = time.perf_counter()
        with ThreadPoolExecutor(HOSTS) as taking:
            list(taking.map(lambda batch: intake.take(batch, snapshot), others))
        took = time.perf_counter() - began
        how = f"{count:,} in batches of {BATCH:,}, each flushed to the disk and acknowledged; {HOSTS} hosts at once"
        yield Figure("flows taken in by the controller", len(others) * BATCH / took, "flows/s", compared_with=how)
        store.close()


def _told(snapshot: Snapshot, count: int) -> Iterator[FlowBatch]:
    """Yield flows between a world's workloads as their hosts tell of them: some talk to some, and often."""
    dice = random.Random(11)
    workloads = [snapshot.workloads[each] for each in sorted(snapshot.workloads)]
    for number in range(count // BATCH):
        own, others = dice.sample(workloads, 100), dice.sample(workloads, 400)
        flows = []
        for place in range(BATCH):
            one, other = dice.choice(own), dice.choice(others)
            key = FlowKey(
                source=one.seen.endpoints[0].addresses[0],
                destination=other.seen.endpoints[0].addresses[0],
                protocol=6,
                port=dice.choice((443, 80, 5432, 8080)),
                end=Direction.EGRESS,
                verdict=Verdict.ALLOWED,
                rule=RuleId(f"policy/rule-{place % 50}"),
                source_workload=one.id,
            )
            flows.append(Flow(key, Tally(HOUR + number, HOUR + number + 1, 2, 9, 4_000, 90_000)))
        now = SystemClock().now()
        yield FlowBatch(HostId(f"host-{number % HOSTS}"), "bench", number, HOUR, HOUR + 3600, now, told(flows))


def _inserted(count: int) -> Iterator[Figure]:
    """Insert the same flows, already columns: what is timed is ClickHouse's part of ``put``."""
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        place = connect(Path(folder))
        migrate(place)
        keep(place.client, RETENTION)
        naming = Naming(bytes(32))
        blocks = [packed(columns([batch], 1, naming).table) for batch in _batches(count, labelled=True)]
        began = time.perf_counter()
        for block in blocks:
            insert_flows(place.client, "flows_in", block)
        took = time.perf_counter() - began
        yield at_least(
            "flows stored, ClickHouse's part", count / took, "flows/s", A_SECOND, "columns, roll-ups included"
        )
        place.close()


def _asked(count: int) -> Iterator[Figure]:
    """Ask for one hour whose every flow is an edge of its own: nothing was summed up before."""
    with tempfile.TemporaryDirectory(prefix="stockade-bench-") as folder:
        store = open_flow_store(Path(folder), retention=RETENTION)
        for batch in _batches(count, labelled=True):
            store.put([batch])
        beside = f"{count:,} edges in one hour"
        for text, by in (*ENDS_ASKED, ("by rule", ("rule",))):
            for span, since, until in (
                ("the hour", HOUR, HOUR + 3600),
                ("from second to second", HOUR + 7, HOUR + 3599),
            ):
                took = _summed_up(store, by, since, until)
                yield at_most(f"flows asked, {text}, {span}", took, "s", A_QUERY, beside)
        took = min(_took(partial(store.flows, FlowFilter(), 100)) for _ in range(3))
        yield at_most("flows asked, the newest hundred", took, "s", A_QUERY, beside)
        for form in FlowFile:
            yield _exported(store, form, min(EXPORTED, count), beside)
        yield from _sizes(store, count)
        yield from _beside_strangers(store, STRANGERS_QUICK if count < EDGES else STRANGERS, beside)
        store.close()


def _beside_strangers(store: ClickHouseFlowStore, count: int, beside: str) -> Iterator[Figure]:
    """Ask for the same hour where the store knows many ends that it does not name."""
    for batch in _strange(count):
        store.put([batch])
    for text, by in ENDS_ASKED:
        took = _summed_up(store, by, HOUR, HOUR + 3600)
        yield at_most(f"flows asked, {text}, among many ends", took, "s", A_QUERY, f"{beside}; {count:,} ends more")


def _summed_up(store: ClickHouseFlowStore, by: tuple[str, ...], since: float, until: float) -> float:
    query = FlowQuery(where=FlowFilter(since=since, until=until), by=tuple(map(dimension, by)))
    return min(_took(partial(store.groups, query)) for _ in range(3))


def _strange(count: int) -> Iterator[StoredBatch]:
    """Yield flows of the hour before, each from an address of its own to the same workload."""
    host, dice, server = HostId("host-a"), random.Random(7), _end(0, labelled=True)
    for number in range(0, count, AT_ONCE):
        places = range(number, min(number + AT_ONCE, count))
        strangers = (FlowEnd(Address(f"172.{16 + (n >> 16)}.{n >> 8 & 255}.{n & 255}")) for n in places)
        flows = (_flow(host, dice, [each], [RuleId("web/all")], HOUR - 3600, server) for each in strangers)
        yield StoredBatch(host, "strangers", number, HOUR, kept(flows))


def _exported(store: ClickHouseFlowStore, form: FlowFile, count: int, beside: str) -> Figure:
    """Write the newest flows as the console and ``stockade flows --export`` do, page by page; nothing of it is kept."""
    began = time.perf_counter()
    size = sum(map(len, written(_pages(store, count), form)))
    took = time.perf_counter() - began
    how = f"the newest {count:,} of {beside}, {size / 2**20:.0f} MB"
    return Figure(f"flows exported as {form.value}", count / took, "flows/s", compared_with=how)


def _pages(store: ClickHouseFlowStore, count: int) -> Iterator[Page]:
    after = None
    for _ in range(0, count, PAGE):
        reply = flows_reply(store.flows(FlowFilter(), PAGE, after))
        after = reply.after
        yield reply.flows


def _sizes(store: ClickHouseFlowStore, count: int) -> Iterator[Figure]:
    stats = store.stats()
    for each in stats.kept:
        yield Figure(f"flows on the disk, {each.resolution.value}", each.bytes / each.rows, "bytes a row")
    yield Figure("flows on the disk, all", stats.bytes / count, "bytes a flow", compared_with="each an edge of its own")


def _took(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _batches(count: int, *, labelled: bool) -> Iterator[StoredBatch]:
    """Yield flows within one hour, between workloads of a fixed seed; hardly two of one key."""
    dice = random.Random(7)
    ends = [_end(place, labelled=labelled) for place in range(WORKLOADS)]
    rules = [RuleId(f"policy-{place % 20}/rule-{place}") for place in range(RULES)]
    host = HostId("host-a")
    made: list[StoredBatch] = []
    for number in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - number)
        if number < MADE or size < AT_ONCE:
            flows = tuple(
                _flow(host, dice, ends, rules, HOUR + 3600 * (number + place) / count) for place in range(size)
            )
            made.append(StoredBatch(host, "bench", number, HOUR + 3600, kept(flows)))
            yield made[-1]
        else:
            before = made[number // AT_ONCE % len(made)]
            yield _between_others(before, number, seconds=3600 * (number - before.number) / count)


def _between_others(batch: StoredBatch, number: int, *, seconds: float) -> StoredBatch:
    """Return a batch of as many flows, so much later, from the same sources each to another flow's destination."""
    rows = batch.flows.rows.moved(seconds)
    cut = 4 * (number // AT_ONCE * 997 % len(rows))
    others = msgspec.structs.replace(rows, destination=rows.destination[cut:] + rows.destination[:cut])
    return msgspec.structs.replace(batch, number=number, flows=msgspec.structs.replace(batch.flows, rows=others))


def _end(place: int, *, labelled: bool) -> FlowEnd:
    address = Address(f"10.{place >> 16 & 255}.{place >> 8 & 255}.{place & 255}")
    labels = (
        ("app", f"app-{place % APPS}"),
        ("env", ("prod", "test", "dev")[place % 3]),
        ("loc", f"site-{place % 7}"),
        ("name", f"workload-{place}"),
        ("role", f"role-{place % 11}"),
        ("team", f"team-{place % 40}"),
    )
    return FlowEnd(address, WorkloadId(f"docker:host-a:{place:064x}"), labels if labelled else ())


def _flow(
    host: HostId,
    dice: random.Random,
    ends: list[FlowEnd],
    rules: list[RuleId],
    first: float,
    to: FlowEnd | None = None,
) -> StoredFlow:
    source, destination = ends[int(dice.random() * len(ends))], to or ends[int(dice.random() * len(ends))]
    key = FlowKey(
        source=source.address,
        destination=destination.address,
        protocol=6,
        port=(443, 80, 5432, 8080)[int(dice.random() * 4)],
        end=Direction.INGRESS,
        verdict=Verdict.DENIED if dice.random() < 0.1 else Verdict.ALLOWED,
        rule=rules[int(dice.random() * len(rules))],
        destination_workload=destination.workload,
    )
    counted = 1 + int(dice.random() * 9)
    tally = Tally(first, first + dice.random() * 10, counted, counted * 3, counted * 700, counted * 4_000, counted, 1.5)
    return StoredFlow(host, source, destination, key, tally)


if __name__ == "__main__":
    main()
