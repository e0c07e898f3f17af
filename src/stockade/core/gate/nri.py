"""NRI: the agent connects as a plugin, and containerd (2.2 and later) refuses containers while it is not there.

A plugin that times out is dropped, and NRI alone would go on without it: what makes it fail closed is that the default
validator is told to require it.
"""

from typing import Any

from stockade.core.gate.toml import PATH, RESTART, found, prune, read_toml, table
from stockade.core.gate.values import Call, Files, Target

WHERE = ("plugins", "io.containerd.nri.v1.nri", "default_validator")
NAME = "stockade"
REQUIRED = "required_plugins"


def put(files: Files, call: Call) -> dict[str, str]:  # noqa: ARG001 - every target is called alike
    """Require the plugin."""
    ((path, text),) = files.items()
    config = read_toml(path, text)
    validator = table(config, *WHERE)
    required = [str(each) for each in validator.get(REQUIRED, [])]
    if validator.get("enable") and NAME in required:
        return {}
    validator["enable"] = True
    validator[REQUIRED] = [*required, NAME]
    return {path: config.as_string()}


def take(files: Files) -> dict[str, str | None]:
    """Require it no more; a validator that required nothing else is as it was before."""
    ((path, text),) = files.items()
    config = read_toml(path, text)
    validator: Any = found(config, *WHERE)
    required = [str(each) for each in validator.get(REQUIRED, [])]
    if NAME not in required:
        return {}
    validator[REQUIRED] = [each for each in required if each != NAME]
    if not validator[REQUIRED]:
        validator.remove(REQUIRED)
        if len(validator) == 1 and validator.get("enable"):
            validator.remove("enable")
    prune(config, *WHERE)
    return {path: None if dict(config) == {"version": 2} else config.as_string()}


TARGETS = (Target("nri", "containerd (NRI)", (PATH,), put, take, heed=RESTART, heed_end=RESTART),)
