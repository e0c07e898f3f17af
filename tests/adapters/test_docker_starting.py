"""Where a container that is being started is met, and where it is no longer."""

import asyncio
from pathlib import Path

from stockade.adapters.docker.sight import Site
from stockade.adapters.docker.starting import Starting
from stockade.adapters.docker.wire import Member, Network
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint
from stockade.seams.places import Place

SITE = Site(HostId("host-a"), "host-a.example", WorkloadId("host:host-a"))
WEB, MAC = "web", "02:42:0a:00:00:02"
ON = Network("net", "bridge", "bridge", containers={WEB: Member("end", MAC, "10.0.0.2/24")})


class Engine:
    """Answers about its one network; its namespaces are files, which lead to ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, str] = {}

    async def get(self, path: str, kind: type[Network]) -> Network:
        assert (path, kind) == ("/networks/net", Network)
        return ON

    async def look(self, path: str) -> Place:
        port = self.ports[Path(path).name]
        return Place(f"mark-{port}", (Endpoint(Attachment.BRIDGED, (), port, "docker0", MAC),))

    def mounts(self, name: str, port: str) -> None:
        self.ports[name] = port
        (self.folder / name).touch()


def starting(engine: Engine) -> Starting:
    engine.mounts("another", "veth0")
    made = Starting(engine, SITE, engine.look)  # type: ignore[arg-type]
    made.known(str(engine.folder / "another"))
    return made


def test_a_container_that_is_started_again_is_met_where_it_is_now(tmp_path: Path) -> None:
    """Its namespace from before may be mounted for a moment longer, with a link of the same MAC."""

    async def run() -> None:
        engine = Engine(tmp_path)
        docker = starting(engine)
        engine.mounts("one", "veth1")
        met = await docker.meet(WEB, "net")
        assert met is not None
        assert (met.mark, [each.port for each in met.endpoints]) == ("mark-veth1", ["veth1"])
        docker.over(WEB)
        engine.mounts("two", "veth2")
        again = await docker.meet(WEB, "net")
        assert again is not None
        assert (again.mark, [each.port for each in again.endpoints]) == ("mark-veth2", ["veth2"])

    asyncio.run(run())


def test_who_is_over_before_it_was_met_is_nowhere(tmp_path: Path) -> None:
    async def run() -> None:
        docker = starting(Engine(tmp_path))
        meeting = asyncio.create_task(docker.meet(WEB, "net"))
        await asyncio.sleep(0.05)
        assert WEB in docker
        docker.over(WEB)
        assert await meeting is None
        assert WEB not in docker

    asyncio.run(run())
