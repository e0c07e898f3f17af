"""The process in which a lab lives. Everything that a lab starts is its descendant, in a pid namespace of its own,
so that nothing can outlive it: neither a crash, nor kill -9 of the lab's owner, nor a daemon that left its session.

It is told what to do over one socket (JSON, descriptors beside it) and ends when that closes or its owner has died.
Started as ``python -I -S -c`` with this module's ``main``: standard library only, no packages are looked for.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

NEW_MOUNTS, NEW_PIDS, NEW_NET = 0x00020000, 0x20000000, 0x40000000
PRIVATE, RECURSIVE, NOSUID, NODEV, NOEXEC = 1 << 18, 1 << 14, 2, 4, 8
PR_SET_PDEATHSIG = 1
WIDEST = 1 << 20
Item = dict[str, Any]

_libc = ctypes.CDLL(None, use_errno=True)


def main(control: int, owner: int) -> None:
    """Make the namespaces and serve. ``control`` is an inherited descriptor, ``owner`` the pid that must live."""
    line = socket.socket(fileno=control)
    watch = os.pidfd_open(owner)
    try:
        _call("unshare", NEW_MOUNTS | NEW_PIDS | NEW_NET)
        _call("mount", b"none", b"/", None, RECURSIVE | PRIVATE, None)
    except OSError as problem:
        _tell(line, {"op": "failed", "step": "unshare", "error": os.strerror(problem.errno or 0)})
        sys.exit(1)
    if child := os.fork():
        line.close()
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    Nursery(line, watch).run()
    os._exit(0)


class Nursery:
    """The first process of the lab's pid namespace: when it ends, the kernel ends all others."""

    def __init__(self, line: socket.socket, owner: int) -> None:
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        self.line, self.owner = line, owner
        self.commands: dict[int, int] = {}
        self.wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self.proc = _fresh_proc()
        _raise_limits()

    def run(self) -> None:
        """Serve until the line closes or the owner dies."""
        # What every node needs is imported once, here, and shared by all of them.
        import stockade.testing.probe.server  # noqa: F401

        gc.collect()
        gc.freeze()
        _tell(self.line, {"op": "ready", "proc": self.proc})
        poll = select.poll()
        for fd in (self.line.fileno(), self.owner, self.wake):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self.owner in ready:
                return
            if self.wake in ready:
                self._reap()
            if self.line.fileno() in ready and not self._serve():
                return

    def _serve(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self.line, 1 << 20, 8)
        if not data:
            return False
        for each in descriptors:
            os.set_inheritable(each, False)
        request = json.loads(data)
        if request["op"] == "birth":
            self._birth(request, descriptors)
        elif request["op"] == "run":
            self._run(request, descriptors)
        elif request["op"] == "clear":
            _tell(self.line, {"op": "cleared", "tag": request["tag"], "killed": _kill_all_in(request["netns"])})
        for each in descriptors:
            os.close(each)
        return True

    def _birth(self, request: Item, descriptors: list[int]) -> None:
        """Start a node: a process that serves on the first descriptor, in a network namespace of its own.

        With a second descriptor it is that network namespace, which somebody else made.
        """
        if os.fork():
            return
        try:
            self._leave()
            if len(descriptors) > 1:
                _call("setns", descriptors[1], NEW_NET)
            else:
                _call("unshare", NEW_NET)
            from stockade.testing.probe.server import Server

            Server(socket.socket(fileno=descriptors[0]), host=request["host"]).run()
        except BaseException as problem:  # noqa: BLE001 - whoever waits for the node reads these words
            os.write(descriptors[0], f"{type(problem).__name__}: {problem}".encode())
        finally:
            os._exit(0)

    def _run(self, request: Item, descriptors: list[int]) -> None:
        """Run a command in a node: descriptors are its line back, its namespace, its input, output and errors."""
        back, namespace, *streams = descriptors
        if child := os.fork():
            self.commands[child] = request["tag"]
            return
        try:
            self._leave()
            _call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0)
            _call("setns", namespace, NEW_NET)
            os.setsid()
            for target, source in enumerate(streams):
                os.dup2(source, target)
            if request["cwd"]:
                os.chdir(request["cwd"])
            os.write(back, b"{}")
            os.execvpe(request["argv"][0], request["argv"], request["env"])
        except OSError as problem:
            os.write(back, os.strerror(problem.errno or 0).encode())
        finally:
            os._exit(127)

    def _leave(self) -> None:
        """In a child: nothing of the nursery's stays open, and the nursery's end is the child's."""
        _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self.line.fileno(), self.owner, self.wake):
            os.close(each)

    def _reap(self) -> None:
        os.read(self.wake, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if (tag := self.commands.pop(pid, None)) is not None:
                _tell(self.line, {"op": "ended", "tag": tag, "status": os.waitstatus_to_exitcode(status)})


def _kill_all_in(netns: int) -> int:
    """Kill every process of the lab that is in a network namespace, until none is left."""
    killed = 0
    for _ in range(100):
        members = [pid for pid in _pids() if _netns_of(pid) == netns]
        if not members:
            return killed
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed += len(members)
        select.select([], [], [], 0.002)
    return killed


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != 1]  # noqa: PTH208


def _netns_of(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return 0


def _fresh_proc() -> bool:
    """Show the lab its own processes. Where /proc is masked the kernel refuses, and the machine's stays in sight."""
    try:
        _call("mount", b"proc", b"/proc", b"proc", NOSUID | NODEV | NOEXEC, None)
    except OSError:
        return False
    return True


def _raise_limits() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, WIDEST), hard))


def _tell(line: socket.socket, message: Item) -> None:
    line.send(json.dumps(message).encode())


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
