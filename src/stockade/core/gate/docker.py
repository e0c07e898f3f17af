"""Docker: a runtime of its own, which puts the hook into each bundle and becomes the runtime that was there before.

Docker's daemon has no hooks. A container keeps the runtime that it was created with: those that were there before do
not meet the gate (the host's base drop holds them all the same), and those that were created behind it cannot be
started without a runtime of its name. So as long as there is one, taking the gate out leaves the name, for what it
stood before. The daemon reads what is new when told to, and what is gone only when it starts.
"""

from typing import Any

from stockade.core.gate.values import Call, CannotEdit, Files, Target, read_json, write_json

PATH = "/etc/docker/daemon.json"
NAME = "stockade"
USUAL = "runc"
ENV = "/usr/bin/env"
"""Stands for the gate in what is left of it. A runtime with arguments is a script of Docker's, and containers that run
were started by that script: it must go on being there."""
BEHIND = "docker containers of this runtime"
"""A fact: the names of containers that were created with it, or anything where nobody can tell."""
DEFAULT, RUNTIMES, ARGUMENTS = "default-runtime", "runtimes", "runtimeArgs"


def needs(files: Files) -> tuple[str, ...]:
    """Return where it is told which containers were created behind the gate, where it is there."""
    ((path, text),) = files.items()
    return (BEHIND,) if NAME in (read_json(path, text).get(RUNTIMES) or {}) else ()


def put(files: Files, call: Call) -> dict[str, str]:
    """Make the gate the default runtime, in front of the one that was."""
    path, text = _config(files)
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
    """Put back the runtime that was; keep the name where containers have it."""
    path, text = _config(files)
    config = read_json(path, text)
    runtimes = dict(config.get(RUNTIMES) or {})
    ours = runtimes.pop(NAME, {})
    was = _was(ours)
    if not was and (ours.get("path") != ENV or files.get(BEHIND)):
        return {}
    if files.get(BEHIND):
        kept = {"path": ENV, ARGUMENTS: ours[ARGUMENTS][ours[ARGUMENTS].index("--") + 1 :]}
        return {path: write_json({**config, DEFAULT: was, RUNTIMES: {**runtimes, NAME: kept}}, text)}
    config[RUNTIMES] = runtimes
    if config.get(DEFAULT) == NAME:
        config[DEFAULT] = was or USUAL
    kept = {key: value for key, value in config.items() if (key, value) not in ((RUNTIMES, {}), (DEFAULT, USUAL))}
    return {path: write_json(kept, text) if kept else None}


def _config(files: Files) -> tuple[str, str | None]:
    return next((path, text) for path, text in files.items() if path != BEHIND)


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


TARGETS = (
    Target(
        "docker",
        "Docker",
        (PATH,),
        put,
        take,
        heed=("systemctl", "reload", "docker"),
        heed_end=("systemctl", "restart", "docker"),
        needs=needs,
        lingers=lambda files: bool(files.get(BEHIND)),
    ),
)
