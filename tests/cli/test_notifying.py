"""What a service tells the manager that started it."""

import os
import socket
from pathlib import Path

import pytest

from stockade.cli.notifying import tell_manager


@pytest.mark.parametrize("abstract", [False, True])
def test_a_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    path = f"@stockade-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + path[1:] if abstract else path)
        manager.settimeout(5)
        tell_manager("READY=1", {"NOTIFY_SOCKET": path})
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", ["", "vsock:2:1234", "/nowhere/notify"])
def test_without_a_manager_nothing_is_said_and_nothing_fails(path: str) -> None:
    tell_manager("READY=1", {"NOTIFY_SOCKET": path} if path else {})
