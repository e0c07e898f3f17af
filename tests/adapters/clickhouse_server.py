"""A ClickHouse server's HTTP interface, as far as the flow store's client speaks it: each request is handed to chDB.

It does what a server does with it (bound parameters, settings, databases, users, compressed bodies, an error's status,
code and words) and has no idea of flows. It is not a cluster, and its engine is the embedded one.
"""

import base64
import email
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame

USER, PASSWORD = "stockade", "a pass'word"
NO_SETTINGS = (
    "query",
    "database",
    "query_id",
    "session_id",
    "client_protocol_version",
    "compress",
    "wait_end_of_query",
)
FORMAT = re.compile(rb"\s*FORMAT\s+(\w+)\s*$", re.IGNORECASE)
INSERT = re.compile(rb"\s*(INSERT INTO [^\n]*?) FORMAT (\w+)\n")


class Server(ThreadingHTTPServer):
    """Serves one folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.lock = threading.Lock()
        self.requests: list[str] = []
        self.failing = 0
        """How many of the next requests a broken network takes."""
        self.unanswered = ""
        """What a request has in it that is done, and of which the broken network takes the answer."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self._body())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _serve(self, body: bytes) -> None:
        asked = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            asked |= _form(kind, body)
            body = b""
        if self.server.failing:
            self.server.failing -= 1
            self._cut()
            return
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
            self._answer(403, b"Code: 516. DB::Exception: Authentication failed (AUTHENTICATION_FAILED)", "516")
            return
        try:
            with self.server.lock:
                done = self._run(asked, body)
            if self.server.unanswered and self.server.unanswered in self.server.requests[-1]:
                self._cut()
            else:
                self._answer(200, done)
        except RuntimeError as problem:
            code = re.search(r"Code: (\d+)", str(problem))
            self._answer(500, str(problem).encode(), code.group(1) if code else "1000")

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _run(self, asked: dict[str, str], body: bytes) -> bytes:
        query = asked.get("query", "").encode()
        self.server.requests.append((query or body).decode(errors="replace"))
        connection = chdb.connect(str(self.server.folder))
        try:
            connection.query(f"USE `{asked.get('database', 'default')}`")
            for name, value in asked.items():
                if name not in NO_SETTINGS and not name.startswith("param_"):
                    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
                    connection.query(f"SET {name} = '{escaped}'")
            params = {name.removeprefix("param_"): value for name, value in asked.items() if name.startswith("param_")}
            whole = b"\n".join(each for each in (query, body) if each)
            entering = INSERT.match(whole)
            if entering is not None:
                return self._insert(connection, entering, whole[entering.end() :])
            return self._ask(connection, whole, params)
        finally:
            connection.close()

    def _ask(self, connection: object, query: bytes, params: dict[str, str]) -> bytes:
        found = FORMAT.search(query)
        form = found.group(1).decode() if found else "TabSeparated"
        text = (query[: found.start()] if found else query).decode()
        answer: bytes = connection.query(text, form, params=params).bytes()  # type: ignore[attr-defined]
        return answer

    def _insert(self, connection: object, entering: re.Match[bytes], rows: bytes) -> bytes:
        into, form = (each.decode() for each in entering.groups())
        with tempfile.NamedTemporaryFile() as file:
            file.write(rows)
            file.flush()
            connection.query(f"{into} FROM INFILE '{file.name}' FORMAT {form}")  # type: ignore[attr-defined]
        return b""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return lz4.frame.decompress(body) if self.headers.get("Content-Encoding") == "lz4" else body

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, status: int, body: bytes, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Server-Display-Name", "a server")
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.end_headers()
        self.wfile.write(body)


def _form(kind: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form: parameters that would make a URL too long."""
    form = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    found = {}
    for part in form.walk():
        name = part.get_param("name", header="content-disposition")
        if isinstance(name, str):
            found[name] = bytes(part.get_payload(decode=True)).decode()
    return found


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serve a folder on the loopback until it is left."""
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    held = chdb.connect(str(folder))
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        held.close()
