"""The first files that a guest's kernel sees: busybox, the modules for disks, and the two scripts that bring it up."""

import hashlib
import lzma
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from stockade.testing.guest import cache
from stockade.testing.guest.kernels import Kernel

FIRST_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4", "overlay")
PORTS = 6
"""Commands that may run in a guest at a time."""

INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for each in $(cat /modules); do insmod /ko/$each; done
init=$(sed -n 's/.*guest.init=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
layers=$(sed -n 's/.*guest.layers=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
kept=$(sed -n 's/.*guest.kept=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
lower=""
for disk in $(echo "$layers" | tr , ' '); do
  mkdir -p /layers/$disk
  mount -t ext4 -o ro,noload /dev/$disk /layers/$disk || mount -t ext4 -o ro /dev/$disk /layers/$disk
  lower="$lower${{lower:+:}}/layers/$disk"
done
mkdir -p /change /new
if [ -n "$kept" ]; then
  mount -t ext4 /dev/$kept /change
else
  mount -t tmpfs -o size=75% change /change
fi
mkdir -p /change/upper /change/work
mount -t overlay -o lowerdir=$lower,upperdir=/change/upper,workdir=/change/work root /new
for each in dev proc sys; do mkdir -p /new/$each; mount --move /$each /new/$each; done
mkdir -p /new/run /new/tmp
mount -t tmpfs -o mode=755 run /new/run
mkdir -p /new/run/guest /new/dev/pts /new/dev/shm
cp /bin/busybox /new/run/guest/busybox
cp /agent /new/run/guest/agent
wanted=/new/run/systemd/system/sysinit.target.wants
mkdir -p $wanted
cp /guest@.service /new/run/systemd/system/
for n in $(seq {PORTS}); do
  ln -s ../guest@.service $wanted/guest@$n.service
  echo "::respawn:/run/guest/agent $n" >> /run-inittab
done
if [ "$init" = busybox ]; then
  mount -t devpts devpts /new/dev/pts
  mount -t tmpfs shm /new/dev/shm
  mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
  cp /run-inittab /new/etc/inittab
  chroot /new /run/guest/busybox ip link set lo up
  chroot /new /run/guest/busybox hostname guest
  init=/run/guest/init
  ln -s busybox /new/run/guest/init
fi
exec switch_root /new $init
"""

UNIT = """[Unit]
Description=Takes commands for tests from port %i
DefaultDependencies=no
[Service]
ExecStart=/run/guest/agent %i
Restart=always
RestartSec=1
KillMode=process
"""

AGENT = """#!/run/guest/busybox sh
b=/run/guest/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root
cd /
for each in /sys/class/virtio-ports/*; do
  [ "$($b cat $each/name)" = "guest.$1" ] && device=/dev/$($b basename $each)
done
[ -n "$device" ] || { $b sleep 1; exit 1; }
exec 3<>$device || { $b sleep 1; exit 1; }
while read -r nonce limit size script <&3; do
  printf '%s{\\n' "$nonce" >&3
  echo "$script" | $b base64 -d > /run/guest/script.$1
  : > /run/guest/input.$1
  if [ "$size" -ge 65536 ]; then
    $b dd bs=65536 count=$((size / 65536)) iflag=fullblock <&3 >> /run/guest/input.$1 2>/dev/null
  fi
  if [ $((size % 65536)) -gt 0 ]; then
    $b dd bs=$((size % 65536)) count=1 iflag=fullblock <&3 >> /run/guest/input.$1 2>/dev/null
  fi
  shell=/bin/sh
  [ -x $shell ] || shell="$b sh"
  $b timeout -s KILL "$limit" $shell /run/guest/script.$1 < /run/guest/input.$1 >&3 2>&1 3>&-
  printf '%s}%s\\n' "$nonce" $? >&3
done
$b sleep 1
"""


def initrd(kernel: Kernel) -> Path:
    """Return the first files for a kernel, as the archive that it unpacks (newc cpio; initramfs buffer format)."""
    return cache.made(f"images/initrd-{kernel.version}-{_version()}.cpio", lambda path: _write(kernel, path))


def _version() -> str:
    return hashlib.sha256((INIT + UNIT + AGENT + str(FIRST_MODULES)).encode()).hexdigest()[:12]


def _write(kernel: Kernel, result: Path) -> None:
    modules = dict(_in_order(kernel))
    files = {
        "init": INIT.encode(),
        "agent": AGENT.encode(),
        "guest@.service": UNIT.encode(),
        "modules": " ".join(modules).encode(),
        "bin/busybox": cache.find("busybox").read_bytes(),
        **{f"ko/{name}": _unpacked(path) for name, path in modules.items()},
    }
    result.write_bytes(archive(files, folders=("bin", "dev", "ko", "proc", "sys")))


def _in_order(kernel: Kernel) -> Iterator[tuple[str, Path]]:
    """Yield the modules, each after those that it needs (modules.dep lists them in reverse); no built-in ones."""
    lines = (kernel.modules / "modules.dep").read_text(encoding="ascii").splitlines()
    needs = {_name(line.partition(":")[0]): line.replace(":", "").split() for line in lines}
    for wanted in FIRST_MODULES:
        for path in reversed(needs.get(wanted, [])):
            yield f"{_name(path)}.ko", kernel.modules / path


def _name(path: str) -> str:
    return re.sub(r"\.ko.*", "", Path(path).name).replace("-", "_")


def _unpacked(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".zst":
        return subprocess.run([cache.find("zstd"), "-dc", path], capture_output=True, check=True).stdout
    return path.read_bytes()


def archive(files: Mapping[str, bytes], folders: tuple[str, ...] = ()) -> bytes:
    """Return a newc cpio archive: executable files of root's, in folders."""
    parts = [_entry(name, 0o040755, b"") for name in folders]
    parts += [_entry(name, 0o100755, content) for name, content in sorted(files.items())]
    return b"".join([*parts, _entry("TRAILER!!!", 0, b"")])


def _entry(name: str, mode: int, content: bytes) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = "070701" + "".join(f"{each:08x}" for each in fields) + name + "\0"
    return _padded(head.encode("ascii")) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)
