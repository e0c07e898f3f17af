"""What every verb that talks to the server begins and ends with."""

from collections.abc import Callable
from typing import TypeVar

from stockade.cli.client import Client
from stockade.cli.output import View, data, show
from stockade.cli.settings import Common, Format, Settings, resolve
from stockade.wire.api import Message

Reply = TypeVar("Reply", bound=Message)


def connect(common: Common) -> tuple[Settings, Client]:
    """Return the settings in force and a client of the server that they name."""
    settings = resolve(common)
    return settings, Client(settings.socket)


def deliver(settings: Settings, reply: Reply, view: Callable[[Reply], View]) -> None:
    """Write a reply to stdout: laid out for reading, or as the API's own object."""
    if settings.output is Format.TABLE:
        show(view(reply))
    else:
        data(reply, settings.output)
