"""Opening a flow store: older schemas, newer ones, folders that are damaged, held, or no folders at all."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.adapters.flow_worlds import ALWAYS, every, ordered, world

from stockade.adapters.clickhouse.client import Place, connect
from stockade.adapters.clickhouse.schema import STEPS, TABLES, Step, migrate, remember, setting
from stockade.adapters.clickhouse.store import open_flow_store
from stockade.seams.flow_store import FlowFilter, FlowStoreFailed

pytestmark = pytest.mark.real
"""A real ClickHouse, in this process or another: too slow for the inner loop."""

HOLDING = """
import sys
from pathlib import Path
from stockade.adapters.clickhouse.store import open_flow_store
store = open_flow_store(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
store.close()
"""
LATER = Step(STEPS[-1].number + 1, "colours", ("ALTER TABLE ends ADD COLUMN IF NOT EXISTS colour String",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "flows"


def left(folder: Path) -> Place:
    """A folder as a store leaves it, with flows."""
    store = open_flow_store(folder, retention=ALWAYS)
    store.put(world(1, 60))
    store.close()
    place = connect(folder)
    place.client.database = place.database
    return place


def test_an_older_schema_is_brought_to_the_newest_and_keeps_its_flows(folder: Path) -> None:
    place = left(folder)
    assert migrate(place, (*STEPS, LATER)) == 1
    assert migrate(place, (*STEPS, LATER)) == 0
    assert setting(place.client, "schema") == str(LATER.number)
    assert place.client.query("SELECT count() FROM flows_raw WHERE put = 0").result_rows == [
        (len(every(world(1, 60))),)
    ]
    assert place.client.query("SELECT DISTINCT colour FROM ends").result_rows == [("",)]
    place.close()


def test_a_store_from_before_names_opens_with_its_flows_and_takes_named_ones(folder: Path) -> None:
    place = left(folder)
    place.client.command("ALTER TABLE ends DROP COLUMN told_name")
    remember(place.client, "schema", "1")
    place.close()
    store = open_flow_store(folder, retention=ALWAYS)
    before = store.flows(FlowFilter(), 1000).flows
    assert len(before) == len(every(world(1, 60)))
    assert {(each.destination.told, each.key.name) for each in before} == {("", "")}
    one = msgspec.structs.replace(world(2, 60)[0], stream="after")
    store.put([one])
    after = store.flows(FlowFilter(), 1000).flows
    assert {each.destination.told for each in after} == {each.destination.told for each in every([one])} | {""}
    store.close()


@pytest.mark.parametrize("made", range(len(STEPS[0].statements)))
def test_a_step_that_was_cut_short_is_taken_again(folder: Path, made: int) -> None:
    place = connect(folder)
    with pytest.raises(Exception, match="NONSENSE"):
        migrate(place, (Step(1, "cut short", (*STEPS[0].statements[:made], "NONSENSE")),))
    place.close()
    store = open_flow_store(folder, retention=ALWAYS)
    store.put(world(1, 60))
    assert len(store.flows(FlowFilter(), 1000).flows) == len(every(world(1, 60)))
    store.close()


def test_a_newer_schema_is_refused_and_left_as_it_is(folder: Path) -> None:
    open_flow_store(folder).close()
    place = connect(folder)
    migrate(place)
    remember(place.client, "schema", str(STEPS[-1].number + 1))
    place.close()
    with pytest.raises(FlowStoreFailed, match="a newer one wrote it") as failed:
        open_flow_store(folder)
    assert failed.value.kept
    assert "newer version" in failed.value.remedy
    place = connect(folder)
    place.client.database = place.database
    assert setting(place.client, "schema") == str(STEPS[-1].number + 1)
    place.close()


def test_a_folder_that_another_process_holds_is_refused(folder: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with pytest.raises(FlowStoreFailed, match=r"another process has the flow store .* open"):
        open_flow_store(folder)
    other.communicate("")
    assert other.returncode == 0
    open_flow_store(folder).close()


def test_a_second_store_of_one_process_is_refused(folder: Path, tmp_path: Path) -> None:
    store = open_flow_store(folder)
    with pytest.raises(FlowStoreFailed, match="this process has another flow store open"):
        open_flow_store(tmp_path / "other")
    store.close()
    open_flow_store(tmp_path / "other").close()


def test_a_file_is_no_folder(folder: Path) -> None:
    folder.write_text("flows")
    with pytest.raises(FlowStoreFailed):
        open_flow_store(folder)
    assert folder.read_text() == "flows"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.sql", "damaged, or none of ours"),
        ("columns.txt", "parts of batches, ends, kinds, settings cannot be read"),
        ("data.bin", "parts of batches, ends, kinds, settings cannot be read"),
    ],
)
def test_a_damaged_folder_is_refused(folder: Path, pattern: str, message: str) -> None:
    store = open_flow_store(folder, retention=ALWAYS)
    store.put(world(1, 60))
    store.close()
    _damage(folder / "store", pattern)
    told = _opened_by_another(folder)
    assert told.startswith("told "), told
    assert message in told
    assert "|  |" not in told


def test_flows_that_cannot_be_read_are_lost_and_that_is_told_once(folder: Path) -> None:
    store = open_flow_store(folder, retention=ALWAYS)
    store.put(world(1, 60))
    rows = store._client.query(
        "SELECT table, path FROM system.parts WHERE active AND table LIKE 'flows_%' ORDER BY table"
    ).result_rows
    store.close()
    for _, path in rows:
        _damage(Path(path) if Path(path).is_absolute() else folder / path, "data.bin")
    assert _opened_by_another(folder).startswith("read 0")
    store = open_flow_store(folder, retention=ALWAYS)
    lost = store.losses(0, 4e9)
    assert [each.loss.what for each in lost] == [f"parts of {table}" for table, _ in rows]
    assert {each.loss.where for each in lost} == {"disk"}
    assert store.put(world(1, 60)).repeated == 6
    store.close()


def test_a_journal_that_cannot_be_read_is_told(folder: Path) -> None:
    open_flow_store(folder).close()
    (folder / "journal" / f"{7:016x}.put").write_bytes(b"\0 nothing of the kind")
    with pytest.raises(FlowStoreFailed, match="a put in progress cannot be read") as failed:
        open_flow_store(folder)
    assert failed.value.remedy
    (folder / "journal" / f"{7:016x}.put").unlink()
    open_flow_store(folder).close()


def _damage(folder: Path, pattern: str) -> None:
    damaged = list(folder.rglob(pattern))
    assert damaged
    for path in damaged:
        path.write_bytes(b"\0 nothing of the kind")


def _opened_by_another(folder: Path) -> str:
    """A process of its own: what the engine could not read stays with it until its process ends."""
    text = (
        "import sys; from pathlib import Path\n"
        "from stockade.adapters.clickhouse.store import open_flow_store\n"
        "from stockade.errors import StockadeError\n"
        "from stockade.seams.flow_store import FlowFilter, Retention\n"
        "try:\n"
        "    store = open_flow_store(Path(sys.argv[1]), retention=Retention(10000, 10000, 10000))\n"
        "    print('read', len(store.flows(FlowFilter(), 1000).flows))\n"
        "    store.close()\n"
        "except StockadeError as problem:\n"
        "    print('told', problem.message, '|', problem.kept, '|', problem.remedy)\n"
    )
    found = subprocess.run([sys.executable, "-c", text, str(folder)], capture_output=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.decode()


@pytest.mark.parametrize("name", ["no-such", "a b", "x;y", "a'b", "x/y", "`x`"])
def test_a_database_whose_name_is_none_is_refused(name: str) -> None:
    with pytest.raises(FlowStoreFailed, match="cannot be a database's name"):
        open_flow_store(f"http://127.0.0.1:9/{name}", journal=Path("unused"))


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FlowStoreFailed) as failed:
        open_flow_store("http://127.0.0.1:9/stockade", journal=tmp_path)
    assert failed.value.kept == "Nothing was changed."


MOMENTS = ("first", "last")


def _codecs(place: Place) -> set[str]:
    found = place.client.query(
        "SELECT DISTINCT compression_codec FROM system.columns WHERE database = 'stockade' "
        "AND table IN ('flows_raw', 'flows_minute', 'flows_hour') AND name IN ('first', 'last')"
    ).result_rows
    return {row[0] for row in found}


def test_tables_that_were_written_with_more_work_are_from_now_on_with_less_and_hold_the_same(folder: Path) -> None:
    place = left(folder)
    for table in TABLES.values():
        place.client.command(
            f"ALTER TABLE {table} {', '.join(f'MODIFY COLUMN {name} CODEC(ZSTD(1))' for name in MOMENTS)}"
        )
        place.client.command(f"OPTIMIZE TABLE {table} FINAL")
    remember(place.client, "written", "as before")
    assert _codecs(place) == {"CODEC(ZSTD(1))"}
    place.close()
    store = open_flow_store(folder, retention=ALWAYS)
    one = msgspec.structs.replace(world(2, 60)[0], stream="after")
    store.put([one])
    held = store.flows(FlowFilter(), 1000).flows
    store.close()
    assert ordered(held) == ordered([*every(world(1, 60)), *every([one])])
    place = connect(folder)
    assert _codecs(place) == {"CODEC(T64, LZ4)"}
    place.close()
