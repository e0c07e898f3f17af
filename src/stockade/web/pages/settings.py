"""Settings: how this installation was started, who you are here, how the console looks."""

from stockade.web.asking import Desk, command
from stockade.web.frame import View
from stockade.web.pages.asking import Asking
from stockade.web.sessions import IDLE, LONGEST
from stockade.wire.api import StatusReply

PATH = "/settings"


async def page(desk: Desk, _asking: Asking) -> View:
    """Every setting with its origin."""
    status = await desk.ask("status", StatusReply)
    values = {"settings": status.settings, "idle": IDLE, "longest": LONGEST}
    return View("settings", "Settings", "settings.html", values, (command("status"),))
