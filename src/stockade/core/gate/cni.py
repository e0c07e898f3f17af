"""CNI: the gate as the last plugin of every list, so that an ADD fails where a workload may not be born.

Whoever makes networks by CNI meets it: containerd's CRI and ``ctr run --cni``, nerdctl, CRI-O, Podman with CNI.
"""

from typing import Any

from stockade.core.gate.values import Call, CannotEdit, Files, Target, read_json, write_json

FOLDER = "/etc/cni/net.d"
PROGRAM = "/opt/cni/bin/stockade"
TYPE = "stockade"


def put(files: Files, call: Call) -> dict[str, str]:
    """Append the plugin to every list that does not end with it."""
    lists = {path: text for path, text in files.items() if text is not None}
    if not lists:
        raise CannotEdit(
            f"there is no CNI network list in {FOLDER}",
            kept="nothing was changed",
            remedy=f"make the network first: {FOLDER}/NAME.conflist",
        )
    ours = {"type": TYPE, "socket": call.socket, "births": call.births}
    changed = {path: _edited(path, text, [ours]) for path, text in lists.items()}
    return {path: text for path, text in changed.items() if text is not None}


def take(files: Files) -> dict[str, str | None]:
    """Take it out of every list."""
    changed = {path: _edited(path, text, []) for path, text in files.items() if text is not None}
    return {path: text for path, text in changed.items() if text is not None}


def _edited(path: str, text: str, ours: list[dict[str, Any]]) -> str | None:
    """Return a list with these for our plugins, at its end; None where it is so."""
    config = read_json(path, text)
    plugins = config.get("plugins")
    if not isinstance(plugins, list):
        return None
    wanted = [*(each for each in plugins if each.get("type") != TYPE), *ours]
    return None if wanted == plugins else write_json({**config, "plugins": wanted}, text)


TARGETS = (Target("cni", "CNI", (f"{FOLDER}/*.conflist",), put, take, program=PROGRAM),)
