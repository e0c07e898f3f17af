"""The command line's client by itself."""

import ssl
from typing import NoReturn

import cli_samples as samples
import pytest
from route_table_server import Server

from stockade.cli.client import Client
from stockade.wire.api import StatusReply


def test_a_unix_socket_needs_no_authorities(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading them takes longer than the whole command, and crashes a program that ends meanwhile."""

    def fail(*_: object, **__: object) -> NoReturn:
        pytest.fail("authorities are read")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", fail)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", fail)
    server.answers["status"] = samples.STATUS
    assert Client(server.socket).call("status", StatusReply) == samples.STATUS
