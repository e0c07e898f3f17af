"""libvirt itself runs a machine: it is found under libvirt's name, with what its owner wrote about it.

libvirtd runs in a host of the test's own, with folders of its own; the machine has a firmware and no disk, which is
all that a card needs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, WorkloadKind
from stockade.errors import StockadeError
from stockade.seams.runtime import Gone, Listed, RuntimeEvent, Seen
from stockade.testing.bare_host import BareHost, bare_host, why_not

pytestmark = [pytest.mark.guest, pytest.mark.timeout(180)]
PATIENCE = 60.0
NEEDED = ("libvirtd", "virsh", "qemu-system-x86_64")
UUID = "0f7a2c36-6c1b-4f4e-9d4e-2f1c5a7b9e01"
OWN_FOLDERS = """
mount -t tmpfs none /run
mkdir -p /run/lock /run/libvirt /run/etc /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
for folder in lib cache log; do mkdir -p /var/$folder/libvirt; mount -t tmpfs none /var/$folder/libvirt; done
mkdir -p /var/lib/libvirt/qemu /var/log/libvirt/qemu /etc/libvirt
grep -q ^libvirt-qemu: /etc/passwd || echo 'libvirt-qemu:x:64055:64055::/:/bin/false' >>/etc/passwd
grep -q ^libvirt-qemu: /etc/group || echo 'libvirt-qemu:x:64055:' >>/etc/group
grep -q ^kvm: /etc/group || echo 'kvm:x:64056:' >>/etc/group
printf '%s\\n' 'user="root"' 'group="root"' 'security_driver="none"' 'cgroup_controllers=[]' 'remember_owner=0' \
  'stdio_handler="file"' >/etc/libvirt/qemu.conf
printf '%s\\n' 'auth_unix_rw="none"' 'unix_sock_group="root"' 'log_outputs="3:stderr"' >/etc/libvirt/libvirtd.conf
"""
DOMAIN = f"""
<domain type='qemu'>
  <name>shop-db</name>
  <uuid>{UUID}</uuid>
  <title>The shop's database</title>
  <metadata>
    <own:estate xmlns:own="urn:example:own"><own:owner>payments</own:owner><own:env>prod</own:env></own:estate>
  </metadata>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>{{emulator}}</emulator>
    <interface type='bridge'><mac address='52:54:00:12:34:56'/><source bridge='br0'/></interface>
    <interface type='ethernet'><mac address='52:54:00:12:34:57'/><target dev='tap7'/></interface>
  </devices>
</domain>
"""
FOLLOW = """
import asyncio, sys
import msgspec
from stockade.adapters.netlink import LinkTaps
from stockade.adapters.qemu import QemuRuntime
from stockade.controller.clock import SystemClock
from stockade.core.model.ids import HostId

async def follow():
    host = HostId("h")
    async for event in QemuRuntime(host, taps=LinkTaps(host), clock=SystemClock()).events():
        sys.stdout.buffer.write(msgspec.json.encode(event) + b"\\n")
        sys.stdout.flush()

asyncio.run(follow())
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[BareHost]:
    """A host on which libvirtd runs; it ends with its machines."""
    if missing := [each for each in NEEDED if not shutil.which(each)]:
        pytest.skip(f"this machine: {', '.join(missing)} not installed (make setup)")
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")
    log = tmp_path / "libvirtd.log"
    with bare_host() as made, log.open("wb") as said:
        made.run(OWN_FOLDERS)
        daemon = made.start("libvirtd", stderr=said)
        try:
            until = time.monotonic() + PATIENCE
            while not answers(made):
                assert daemon.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.2)
            yield made
        finally:
            for each in made.run("cat /run/libvirt/qemu/*.pid 2>/dev/null || true").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(each), signal.SIGKILL)
            daemon.kill()
            daemon.wait()


def answers(host: BareHost) -> bool:
    """Tell whether libvirtd can be asked yet."""
    try:
        host.run("virsh -c qemu:///system list")
    except StockadeError:
        return False
    return True


def test_a_machine_of_libvirt_s_is_called_as_libvirt_calls_it(host: BareHost, tmp_path: Path) -> None:
    described = tmp_path / "domain.xml"
    described.write_text(DOMAIN.format(emulator=shutil.which("qemu-system-x86_64")))
    following = host.start(sys.executable, "-c", FOLLOW, stdout=subprocess.PIPE)
    try:
        assert told(following) == Listed(())
        host.run(f"virsh -c qemu:///system create {described}")
        seen = told(following)
        while isinstance(seen, Seen) and len(seen.sighting.endpoints) < 2:
            seen = told(following)
        assert isinstance(seen, Seen)
        machine = seen.sighting
        assert (machine.id, machine.name, machine.kind) == (WorkloadId(f"vm:h:{UUID}"), "shop-db", WorkloadKind.VM)
        assert machine.facts.runtime == "libvirt"
        assert machine.facts.labels == (
            ("metadata.estate.env", "prod"),
            ("metadata.estate.owner", "payments"),
            ("title", "The shop's database"),
        )
        routed, bridged = machine.endpoints
        assert (routed.attachment, routed.port, routed.mac) == (Attachment.ROUTED, "tap7", "52:54:00:12:34:57")
        assert (bridged.attachment, bridged.bridge, bridged.mac) == (Attachment.BRIDGED, "br0", "52:54:00:12:34:56")
        assert bridged.port == host.run("ip -br link show master br0").split()[0]
        host.run("virsh -c qemu:///system destroy shop-db")
        gone = told(following)
        while isinstance(gone, Seen):
            gone = told(following)
        assert isinstance(gone, Gone)
        assert gone.id == machine.id
    finally:
        following.kill()
        following.communicate()


def told(following: "subprocess.Popen[bytes]") -> RuntimeEvent:
    """Return what is told next."""
    assert following.stdout is not None
    line = following.stdout.readline()
    assert line, "the follower ended"
    found: RuntimeEvent = msgspec.json.decode(line, type=RuntimeEvent)
    return found
