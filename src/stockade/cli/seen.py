"""How what a kernel shows is written: processes, listening sockets, links, ways out."""

from stockade.core.model.census import Interface, Listening, Neighbour, Process, Route


def ran(process: Process | None) -> str:
    """Return a process with its id and unit; empty where there is none."""
    if process is None:
        return ""
    return f"{process.name} (pid {process.pid}{f', {process.unit}' if process.unit else ''})"


def listened(each: Listening) -> str:
    """Return a listening socket as policy writes its port, and who holds it."""
    where = f" on {each.address}" if each.address else ""
    return f"{each.protocol.name.lower()}/{each.port}{where}" + (f" by {ran(each.process)}" if each.process else "")


def laid(each: Interface) -> str:
    """Return a link with its addresses."""
    words = [each.kind, each.mac, f"in {each.master}" if each.master else "", "" if each.running else "down"]
    return " ".join(filter(None, (*words, *each.addresses)))


def way(each: Route) -> str:
    """Return where a route leads."""
    hop = f"via {each.via} " if each.via else ""
    return f"{hop}on {each.interface}" + (f", metric {each.metric}" if each.metric else "")


def met(each: Neighbour) -> str:
    """Return where a neighbour is met, and with which addresses."""
    where = f"{each.port} of {each.interface}" if each.port else each.interface
    return " ".join((where, *each.addresses))
