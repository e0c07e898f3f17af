"""The line within one process is a ``ControllerLink``: reports go up, the newest assignment comes down."""

from pathlib import Path

from controlled import FILES, HOST, TIERS, applied, host_seen, obey, opened, run

from stockade.controller.link import DirectLink
from stockade.seams.link import ControllerLink
from stockade.wire import Report


def test_reports_up_assignments_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            link: ControllerLink = DirectLink(installation.controller, HOST)
            assert await link.generation() == 0
            assert await link.say(Report(HOST, 1, (*host_seen(), *TIERS))) == 1
            assert await link.say(Report(HOST, 1, ())) == 1
            await installation.controller.publish()
            assignments = link.assignments("")
            first = await anext(assignments)
            assert len(first.intent.ends) == 4
            await applied(installation, (FILES[0],))
            await applied(installation, FILES)
            newest = await anext(assignments)
            assert (newest.intent.version, newest.intent.host) == (2, HOST), "what came in between is passed over"
            await obey(installation.controller)
            await installation.controller.close()
            assert [each async for each in assignments] == []

    run(scenario())
