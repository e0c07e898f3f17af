"""Podman and CRI-O: a file in their folder of hooks (``oci-hooks(5)``), read at each start of a container."""

from stockade.core.gate.values import Call, Files, Target, write_json

PODMAN = "/etc/containers/oci/hooks.d/stockade.json"
CRIO = "/usr/share/containers/oci/hooks.d/stockade.json"


def put(files: Files, call: Call) -> dict[str, str]:
    """Write the file."""
    ((path, text),) = files.items()
    wanted = write_json(
        {"version": "1.0.0", "hook": call.hook(), "when": {"always": True}, "stages": ["createRuntime"]}
    )
    return {} if text == wanted else {path: wanted}


def take(files: Files) -> dict[str, str | None]:
    """Remove it."""
    return {path: None for path, text in files.items() if text is not None}


TARGETS = (Target("podman", "Podman", (PODMAN,), put, take), Target("cri-o", "CRI-O", (CRIO,), put, take))
