"""Docker: a runtime of its own, which puts the hook into each bundle and becomes the runtime that was there before.

Docker's daemon has no hooks. Containers that exist keep the runtime they were created with; the host's base drop holds
them all the same.
"""

from typing import Any

from stockade.core.gate.values import Call, CannotEdit, Files, Target, read_json, write_json

PATH = "/etc/docker/daemon.json"
NAME = "stockade"
USUAL = "runc"
DEFAULT, RUNTIMES, ARGUMENTS = "default-runtime", "runtimes", "runtimeArgs"


def put(files: Files, call: Call) -> dict[str, str]:
    """Make the gate the default runtime, in front of the one that was."""
    ((path, text),) = files.items()
    config = read_json(path, text)
    runtimes = dict(config.get(RUNTIMES) or {})
    was = _was(runtimes.pop(NAME, None)) or config.get(DEFAULT) or USUAL
    ours = {
        "path": call.program,
        ARGUMENTS: ["runtime", *call.options, "--was", was, "--", *_command(path, was, runtimes)],
    }
    changed = {**config, DEFAULT: NAME, RUNTIMES: {**runtimes, NAME: ours}}
    return {} if changed == config else {path: write_json(changed, text)}


def take(files: Files) -> dict[str, str | None]:
    """Put back the runtime that was."""
    ((path, text),) = files.items()
    config = read_json(path, text)
    runtimes = dict(config.get(RUNTIMES) or {})
    ours = runtimes.pop(NAME, None)
    if ours is None:
        return {}
    was = _was(ours)
    config[RUNTIMES] = runtimes
    if config.get(DEFAULT) == NAME:
        config[DEFAULT] = was
    kept = {key: value for key, value in config.items() if (key, value) not in ((RUNTIMES, {}), (DEFAULT, USUAL))}
    return {path: write_json(kept, text) if kept else None}


def _command(path: str, name: str, runtimes: dict[str, Any]) -> list[str]:
    """Return the words by which a runtime is called."""
    if name == USUAL and USUAL not in runtimes:
        return [USUAL]
    known = runtimes.get(name) or {}
    if not known.get("path"):
        raise CannotEdit(
            f'{path}: the default runtime "{name}" is no program that a hook can be given to',
            kept="nothing was changed",
            remedy='put the gate into it by its own means (hooks, or CNI), or set "default-runtime" to another',
        )
    return [known["path"], *(known.get(ARGUMENTS) or [])]


def _was(ours: dict[str, Any] | None) -> str:
    words = (ours or {}).get(ARGUMENTS) or []
    return str(words[words.index("--was") + 1]) if "--was" in words else ""


TARGETS = (Target("docker", "Docker", (PATH,), put, take, heed=("systemctl", "reload", "docker")),)
