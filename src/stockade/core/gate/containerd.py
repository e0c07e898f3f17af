"""containerd: each CRI runtime's base specification, with the hook in it.

The base specification is what containerd starts every CRI container's own from. A runtime that has one keeps it: the
gate's is a copy with the hook. ``ctr run`` and nerdctl do not read it; they meet the gate as a CNI plugin.
"""

import json
from typing import Any

from stockade.core.gate.toml import PATH, RESTART, found, prune, read_toml, table, version
from stockade.core.gate.values import Call, CannotEdit, Files, Target, read_json, write_json

CRI = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
KEY, WAS = "base_runtime_spec", "stockade.was"
FOLDER = PATH.rpartition("/")[0]
PREFIX, SUFFIX = "stockade-", ".json"
"""Of our specifications' names, in that folder."""
USUAL, USUAL_TYPE = "runc", "io.containerd.runc.v2"
MADE = "made for the birth gate of stockade"
"""The comment of a table that was not there before."""
DEFAULT_SPEC = "ctr oci spec"
"""Read as if it were a file: what containerd gives a container where nobody says otherwise."""


def needs(files: Files) -> tuple[str, ...]:
    """Return the specifications that are in use, and the default one."""
    config = read_toml(*_config(files))
    used = (str(each.get(KEY, "")) for each in _runtimes(config).values())
    return (DEFAULT_SPEC, *sorted({each for each in used if each and not _is_ours(each)}))


def put(files: Files, call: Call) -> dict[str, str]:
    """Give every runtime a base specification with the hook."""
    path, text = _config(files)
    config = read_toml(path, text)
    runtimes = table(config, "plugins", CRI[version(config)], "containerd", "runtimes")
    if not runtimes:
        table(runtimes, USUAL).comment(MADE)["runtime_type"] = USUAL_TYPE
    changed: dict[str, str] = {}
    for name, runtime in runtimes.items():
        ours = f"{FOLDER}/{PREFIX}{name}{SUFFIX}"
        base = _was(files.get(ours)) or str(runtime.get(KEY, "")) or DEFAULT_SPEC
        runtime[KEY] = ours
        changed[ours] = _hooked(base, files.get(base), call)
    changed[path] = config.as_string()
    return {each: wanted for each, wanted in changed.items() if files.get(each) != wanted}


def take(files: Files) -> dict[str, str | None]:
    """Give every runtime back what it had."""
    path, text = _config(files)
    config = read_toml(path, text)
    changed: dict[str, str | None] = {each: None for each in files if _is_ours(each) and files[each] is not None}
    where = ("plugins", CRI[version(config)], "containerd", "runtimes")
    for name, runtime in list(found(config, *where).items()):
        if not _is_ours(str(runtime.get(KEY, ""))):
            continue
        was = _was(files.get(str(runtime[KEY])))
        runtime.remove(KEY)
        if was and was != DEFAULT_SPEC:
            runtime[KEY] = was
        if MADE in runtime.trivia.comment and dict(runtime) == {"runtime_type": USUAL_TYPE}:
            runtime.remove("runtime_type")
        prune(config, *where, name)
    if config.as_string() != text and text is not None:
        changed[path] = None if dict(config) == {"version": 2} else config.as_string()
    return changed


def _config(files: Files) -> tuple[str, str | None]:
    return next((path, text) for path, text in files.items() if path.endswith(".toml"))


def _runtimes(config: Any) -> dict[str, Any]:
    return dict(found(config, "plugins", CRI[version(config)], "containerd", "runtimes"))


def _is_ours(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def _was(text: str | None) -> str:
    """Return which specification ours was made from."""
    annotations = (json.loads(text).get("annotations") or {}) if text else {}
    return str(annotations.get(WAS, ""))


def _hooked(base: str, text: str | None, call: Call) -> str:
    if text is None:
        raise CannotEdit(
            f"the base specification {base} cannot be read",
            kept="nothing was changed",
            remedy=f"mend {KEY} in {PATH}, or start containerd: its client ctr is asked for the default",
        )
    spec = read_json(base, text)
    hooks = dict(spec.get("hooks") or {})
    hooks["createRuntime"] = [call.hook(), *(hooks.get("createRuntime") or [])]
    annotations = {**(spec.get("annotations") or {}), WAS: base}
    return write_json({**spec, "hooks": hooks, "annotations": annotations}, text)


TARGETS = (
    Target(
        "containerd",
        "containerd (CRI)",
        (PATH, f"{FOLDER}/{PREFIX}*{SUFFIX}"),
        put,
        take,
        heed=RESTART,
        heed_end=RESTART,
        needs=needs,
    ),
)
