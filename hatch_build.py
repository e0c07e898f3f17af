"""Puts into the wheel what is not in the checkout: the birth gate and the console's third-party scripts.

The gate (``src/stockade/gate``) makes the wheel one for this kind of machine alone. Where it cannot be built the wheel
is made without it, for any machine; ``stockade gate install`` says what is missing. Without the scripts
(``scripts/console-scripts``) the console's pages work, and are not kept up to date by themselves.
"""

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/stockade/gate"
SCRIPTS = "src/stockade/web/static/vendor"


class GateHook(BuildHookInterface[Any]):
    """Runs for wheels; ``make setup`` builds the checkout's own."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's interface
        """Build and fetch, and name the machine that the wheel is for."""
        fetch = Path(self.root) / "scripts/console-scripts"
        if fetch.exists():
            subprocess.run([fetch], check=False)
        if (Path(self.root) / SCRIPTS).is_dir():
            build_data["artifacts"].append(f"{SCRIPTS}/*")
        if subprocess.run([Path(self.root) / FOLDER / "build"], check=False).returncode:
            return
        build_data["artifacts"].append(f"{FOLDER}/stockade-gate")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
