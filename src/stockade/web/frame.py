"""The one frame around every page: bar, rail, canvas, drawer. Templates escape whatever they are given.

A page is a function of a desk and what was asked; it returns a view. Here a view becomes a document.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

import stockade
from stockade.core.model.flow import EXPORTER
from stockade.web import words
from stockade.web.asking import Desk
from stockade.web.assets import assets
from stockade.wire.amounts import size

THEMES = ("system", "light", "dark")


class Place(NamedTuple):
    """A page in the rail: its name, path and title, and the key that leads there after ``g``."""

    name: str
    path: str
    title: str
    key: str


RAIL = (
    Place("map", "/map", "Map", "m"),
    Place("workloads", "/workloads", "Workloads", "w"),
    Place("flows", "/flows", "Flows", "l"),
    Place("policies", "/policies", "Policies", "p"),
    Place("explain", "/explain", "Explain", "e"),
    Place("births", "/births", "Births", "b"),
    Place("findings", "/findings", "Findings", "f"),
    Place("audit", "/audit", "Audit", "a"),
    Place("points", "/points", "Enforcement points", "o"),
    Place("settings", "/settings", "Settings", "s"),
)


class View(msgspec.Struct, frozen=True):
    """What a page shows: a template and its values. ``commands`` say the same in a terminal.

    ``still``: nothing but its user changes what is on it, because something is being written there. ``flows``: it is
    looked at again when flows are stored, too.
    """

    page: str
    title: str
    template: str
    values: Mapping[str, Any]
    commands: tuple[str, ...] = ()
    status: int = 200
    still: bool = False
    flows: bool = False


class Data(msgspec.Struct, frozen=True):
    """What a script of a page asks for: JSON, as it is sent."""

    content: bytes
    status: int = 200


class Goto(msgspec.Struct, frozen=True):
    """What a form leads to once it is done."""

    path: str


class Frame(msgspec.Struct, frozen=True):
    """What the frame needs of the request: theme, form token, whether it is only to replace what is there."""

    theme: str
    token: str
    search: str = ""


async def rendered(desk: Desk, frame: Frame, view: View) -> HTMLResponse:
    """Return the whole document."""
    status = await desk.status()
    text = (
        environment()
        .get_template(view.template)
        .render(
            **view.values,
            view=view,
            frame=frame,
            rail=RAIL,
            status=status,
            caller=desk.caller,
            may_apply=desk.may_apply,
            asked=desk.asked,
            rung=desk.seen(flows=view.flows),
            now=desk.installation.controller.clock.now(),
        )
    )
    return HTMLResponse(text, view.status)


def bare(template: str, theme: str, status: int = 200, **values: object) -> HTMLResponse:
    """Return a document without the frame: for who is not signed in."""
    return HTMLResponse(environment().get_template(template).render(theme=theme, **values), status)


@cache
def environment() -> Environment:
    """Return the templates. What a template does not know is an error, not nothing."""
    made = Environment(
        loader=PackageLoader("stockade.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        asset=lambda name: assets()[name].path,
        has_asset=lambda name: name in assets(),
        product=stockade.__version__,
        link=words.link,
        place_link=words.place_link,
        line_id=words.line_id,
        counted=words.counted,
        size=size,
        exporter=words.exporter,
        EXPORTER=EXPORTER,
        astray=words.astray,
        health=words.health,
        selected=words.selected,
        whose=words.whose,
        themes=THEMES,
    )
    made.filters.update(
        stamp=words.stamp,
        calendar=words.calendar,
        moment=words.moment,
        span=words.span,
        place=words.place,
        joined=words.joined,
    )
    return made
