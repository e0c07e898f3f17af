"""NRI: the gate as a plugin that containerd (2.2 and later) starts itself, and without which it makes no container.

A plugin that is lost is dropped, and NRI alone would go on without it: what makes it fail closed is that the default
validator is told to require it. A validator does not know what this host does with unknown workloads: with a gate that
is killed, and not started again, nothing is made where births pass, either.
"""

from typing import Any

from stockade.core.gate.toml import PATH, RESTART, found, prune, read_toml, table
from stockade.core.gate.values import Call, Files, Target

NAME = "stockade"
PROGRAM = f"/opt/nri/plugins/10-{NAME}"
OPTIONS = f"/etc/nri/conf.d/10-{NAME}.conf"
PLUGIN = ("plugins", "io.containerd.nri.v1.nri")
WHERE = (*PLUGIN, "default_validator")
REQUIRED = "required_plugins"


def put(files: Files, call: Call) -> dict[str, str]:
    """Give the plugin its options, and require it."""
    config = read_toml(PATH, files.get(PATH))
    if found(config, *PLUGIN).get("disable"):
        table(config, *PLUGIN)["disable"] = False
    validator = table(config, *WHERE)
    required = [str(each) for each in validator.get(REQUIRED, [])]
    if not (validator.get("enable") and NAME in required):
        validator["enable"] = True
        validator[REQUIRED] = [*(each for each in required if each != NAME), NAME]
    wanted = {PATH: config.as_string(), OPTIONS: "".join(f"{word}\n" for word in call.options)}
    return {path: text for path, text in wanted.items() if files.get(path) != text}


def take(files: Files) -> dict[str, str | None]:
    """Require it no more; a validator that required nothing else is as it was before."""
    changed: dict[str, str | None] = {OPTIONS: None} if files.get(OPTIONS) is not None else {}
    config = read_toml(PATH, files.get(PATH))
    validator: Any = found(config, *WHERE)
    required = [str(each) for each in validator.get(REQUIRED, [])]
    if NAME not in required:
        return changed
    validator[REQUIRED] = [each for each in required if each != NAME]
    if not validator[REQUIRED]:
        validator.remove(REQUIRED)
        if len(validator) == 1 and validator.get("enable"):
            validator.remove("enable")
    prune(config, *WHERE)
    return {**changed, PATH: None if dict(config) == {"version": 2} else config.as_string()}


TARGETS = (
    Target("nri", "containerd (NRI)", (PATH, OPTIONS), put, take, heed=RESTART, heed_end=RESTART, program=PROGRAM),
)
