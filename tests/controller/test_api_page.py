"""docs/api.md says what is served: every route, status and metric, and none that is not."""

import re
from pathlib import Path

from controlled import opened, run

from stockade.controller.exporters.exporters import Exporters
from stockade.controller.http.openapi import ERRORS
from stockade.controller.metrics import exposition
from stockade.wire.api import Role
from stockade.wire.routes import ROUTES

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
SECTIONS = {each.partition("\n")[0]: each for each in PAGE.split("\n## ")}


def rows(section: str) -> list[list[str]]:
    """Return the cells of a section's tables, without their heads."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][2:]


def test_every_route_is_on_the_page_as_it_is() -> None:
    roles = {Role.READ: "read", Role.APPLY: "apply"}
    written = [
        [
            f"`{each.method.value} {each.path}`",
            each.summary,
            roles[each.role],
            ", ".join(f"`{p.name}`{'*' if p.required else ''}" for p in each.parameters),
            f"`{each.request.__name__}`" if each.request else "",
        ]
        for each in ROUTES
    ]
    assert [row[:5] for row in rows("Routes")] == written


def test_every_error_status_is_on_the_page() -> None:
    assert [row[0] for row in rows("Conventions")] == list(ERRORS)


def test_every_metric_is_on_the_page(tmp_path: Path) -> None:
    async def scenario() -> str:
        async with opened(tmp_path) as installation:
            return exposition(installation.controller, Exporters(())).decode()

    exposed = {
        name + ("_total" if kind == "counter" and not name.endswith("_total") else "")
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", run(scenario()), re.MULTILINE)
    }
    documented = {name for row in rows("Metrics") for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == exposed
