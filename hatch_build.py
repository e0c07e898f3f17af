"""Builds the birth gate (``src/stockade/gate``) into the wheel, which then is for this kind of machine alone.

Where it cannot be built the wheel is made without it, for any machine; ``stockade gate install`` says what is missing.
"""

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/stockade/gate"


class GateHook(BuildHookInterface[Any]):
    """Runs for wheels; ``make setup`` builds the checkout's own."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's interface
        """Build it, and name the machine that the wheel is for."""
        if subprocess.run([Path(self.root) / FOLDER / "build"], check=False).returncode:
            return
        build_data["artifacts"].append(f"{FOLDER}/stockade-gate")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
