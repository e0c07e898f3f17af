"""The package on a machine of its own, with a kernel that starts anew: a reset, and a reset with the program gone.

Two workloads, namespaces on a bridge, are made by units right after ``network-pre.target``, and one sends to the other
at once and without end. What arrived is written down by the other, with the moment of the guest's clock.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from debian import made_root

from stockade.core.model.ids import Address, HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Facts, Sighting, WorkloadKind
from stockade.seams.runtime import Listed, Seen
from stockade.testing.guest import STABLE, Guest, Machine, image, kernel, modules
from stockade.testing.guest.cache import call, made

pytestmark = [pytest.mark.guest, pytest.mark.timeout(1800)]
ALLOWED, DENIED = 8000, 7000
PLACES = {"a": ("10.9.0.2", "02:00:00:00:09:02"), "b": ("10.9.0.3", "02:00:00:00:09:03")}
KEPT = 512 << 20
POLICY = f"""
apiVersion: stockade.dev/v1
kind: EnforcementMode
metadata: {{name: pair}}
spec: {{select: app = pair, mode: full, priority: 10}}
---
apiVersion: stockade.dev/v1
kind: Policy
metadata: {{name: pair}}
spec:
  scope: app = pair
  rules:
    - name: a-to-b
      allow: {{from: role = a, to: role = b, on: [udp/{ALLOWED}]}}
"""
EARLY = """[Unit]
DefaultDependencies=no
After=network-pre.target local-fs.target {after}
Before=network.target
[Service]
Type={kind}
RemainAfterExit=yes
ExecStart={command}
"""
WORKLOADS = """#!/bin/sh
set -e
modprobe br_netfilter
ip link add br0 type bridge
ip address add 10.9.0.1/24 dev br0
ip link set br0 up
each() {
  ip netns add "$1"
  ip link add "v$1" type veth peer name eth0 netns "$1"
  ip link set "v$1" master br0 up
  ip -n "$1" link set eth0 address "$3" up
  ip -n "$1" address add "$2/24" dev eth0
}
"""
TELL = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind("/run/tell.sock")
listener.listen()
held = []
while True:
    held.append(listener.accept()[0])
    held[-1].sendall(open("/usr/local/lib/told", "rb").read() + b"\\n")
"""
SEND = f"""
import socket, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for port in ({ALLOWED}, {DENIED}):
        try:
            sender.sendto(b"?", ("10.9.0.3", port))
        except OSError:
            pass
    time.sleep(0.02)
"""
HEAR = f"""
import select, socket, time
here = dict()
for port in ({ALLOWED}, {DENIED}):
    hearer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hearer.bind(("", port))
    here[hearer] = port
with open("/run/heard", "a", buffering=1) as heard:
    while True:
        for each in select.select(list(here), [], [])[0]:
            each.recv(10)
            heard.write(f"{{time.monotonic():.6f}} {{here[each]}}\\n")
"""


@pytest.fixture(scope="module")
def guest(packages: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A Debian machine with the package as dpkg unpacks it and its units enabled, and two workloads."""
    folder = tmp_path_factory.mktemp("guest")
    root, chosen = made_root(), kernel(STABLE)
    system = made(f"images/{root.name}.ext4", lambda path: image(root, path) and None)
    installed = image(layer(folder / "layer", packages[0]), folder / "layer.ext4")
    kept = folder / "kept.ext4"
    with kept.open("wb") as file:
        file.truncate(KEPT)
    call("mke2fs", "-q", "-F", "-t", "ext4", kept)
    with Guest(Machine(chosen, (installed, modules(chosen), system), init="/sbin/init", kept=kept)) as it:
        yield it


def layer(folder: Path, package: Path) -> Path:
    """Return a folder of what lies over the root."""
    folder.mkdir()
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    units = folder / "etc/systemd/system"
    sysinit, multi_user = units / "sysinit.target.wants", units / "multi-user.target.wants"
    local = folder / "usr/local"
    for each in (sysinit, multi_user, local / "sbin", local / "lib", units / "stockade.service.d"):
        each.mkdir(parents=True)
    (sysinit / "stockade-restore.service").symlink_to("/usr/lib/systemd/system/stockade-restore.service")
    (multi_user / "stockade.service").symlink_to("/usr/lib/systemd/system/stockade.service")
    (units / "stockade.service.d/lab.conf").write_text(
        "[Service]\nTimeoutStartSec=600\nExecStart=\n"  # emulated, it starts slowly
        "ExecStart=/usr/bin/stockade up --lab /run/tell.sock --no-docker --host guest\n"
    )
    made_by = WORKLOADS + "".join(f"each {name} {' '.join(place)}\n" for name, place in PLACES.items())
    (folder / "usr/local/sbin/workloads").write_text(made_by)
    (folder / "usr/local/sbin/workloads").chmod(0o755)
    (folder / "usr/local/lib/told").write_bytes(msgspec.json.encode(Listed(tuple(map(seen, PLACES)))))
    (folder / "root").mkdir(mode=0o700)
    (folder / "root/pair.yaml").write_text(POLICY)
    within = "/sbin/ip netns exec {} /usr/bin/python3.11 /usr/local/lib/{}.py"
    early = {
        "workloads": ("/usr/local/sbin/workloads", "oneshot", ""),
        "tell": ("/usr/bin/python3.11 /usr/local/lib/tell.py", "exec", ""),
        "hear": (within.format("b", "hear"), "exec", "workloads.service"),
        "send": (within.format("a", "send"), "exec", "workloads.service hear.service"),
    }
    for name, (command, kind, after) in early.items():
        (units / f"{name}.service").write_text(EARLY.format(command=command, kind=kind, after=after))
        (sysinit / f"{name}.service").symlink_to(f"../{name}.service")
    for name, program in (("tell", TELL), ("hear", HEAR), ("send", SEND)):
        (folder / f"usr/local/lib/{name}.py").write_text(program)
    return folder


def seen(name: str) -> Seen:
    address, mac = PLACES[name]
    endpoint = Endpoint(Attachment.BRIDGED, (Address(address),), f"v{name}", "br0", mac)
    facts = Facts(runtime="lab", host_name="guest", labels=(("stockade.app", "pair"), ("stockade.role", name)))
    return Seen(
        Sighting(WorkloadId(name), name, WorkloadKind.CONTAINER, HostId("guest"), endpoints=(endpoint,), facts=facts),
        1.0,
    )


def moment(guest: Guest, unit: str, stamp: str) -> float:
    return int(guest.check(f"systemctl show {unit} --value -p {stamp}")) / 1e6


def heard(guest: Guest) -> list[tuple[float, int]]:
    words = (line.split() for line in guest.check("cat /run/heard").splitlines())
    return [(float(at), int(port)) for at, port in words]


def up(guest: Guest) -> None:
    """Wait until the machine has started what it is to start."""
    guest.run("systemctl is-system-running --wait", timeout=240)


def test_after_a_reset_the_kernel_judges_at_once_and_a_broken_program_keeps_nobody_out(guest: Guest) -> None:
    up(guest)
    before = failed(guest)
    guest.check("systemctl start stockade.service stockade-restore.service", timeout=300)
    assert {port for _, port in heard(guest)} == {ALLOWED, DENIED}, "a new installation denies nothing"
    guest.check("stockade apply --yes /root/pair.yaml", timeout=300)
    guest.check("sync; : > /run/heard; sleep 3")
    assert {port for _, port in heard(guest)} == {ALLOWED}
    guest.reset()
    guest.check("systemctl start stockade.service", timeout=300)
    after_reset(guest)
    guest.check("rm /usr/lib/stockade/bin/python; sync")
    guest.reset()
    up(guest)
    broken(guest, before)


def after_reset(guest: Guest) -> None:
    """Restored before the network, allowed at once, denied never, long before `up` was ready; then adopted."""
    restored = moment(guest, "stockade-restore.service", "ExecMainExitTimestampMonotonic")
    network = moment(guest, "network-pre.target", "ActiveEnterTimestampMonotonic")
    ready = moment(guest, "stockade.service", "ActiveEnterTimestampMonotonic")
    assert "is in force again" in guest.check("journalctl -b -u stockade-restore.service --no-pager")
    assert restored <= network < ready
    arrived = heard(guest)
    assert {port for _, port in arrived} == {ALLOWED}
    assert network < arrived[0][0] < ready, "it passed by what was restored"


def failed(guest: Guest) -> set[str]:
    listed = guest.check("systemctl list-units --failed --plain --no-legend")
    return {line.split()[0] for line in listed.splitlines()}


def broken(guest: Guest, before: set[str]) -> None:
    """The machine is up, only our units have failed, whoever has a key logs in; the host is open."""
    assert failed(guest) - before <= {"stockade.service", "stockade-restore.service"}
    assert guest.check("systemctl is-active multi-user.target ssh.service").split() == ["active", "active"]
    guest.check("mkdir -p -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id", timeout=240)
    guest.check("cp /root/.ssh/id.pub /root/.ssh/authorized_keys; ip link set lo up")
    ssh = "ssh -i /root/.ssh/id -o StrictHostKeyChecking=no -o BatchMode=yes root@127.0.0.1"
    assert guest.check(f"{ssh} echo in", timeout=240).splitlines()[-1] == "in"
    assert {port for _, port in heard(guest)} == {ALLOWED, DENIED}
