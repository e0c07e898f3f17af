"""Write the captures beside this file: what real containerds (``stockade.testing.containerd``) answer to what we ask.

As root: ``python tests/adapters/captures/containerd/record.py``. Messages as they went over the wire, in base64.
"""

import asyncio
import base64
import contextlib
import json
from pathlib import Path

from stockade.adapters.containerd import wire
from stockade.adapters.containerd.grpc import Channel
from stockade.adapters.containerd.protobuf import encode
from stockade.adapters.containerd.session import FILTERS
from stockade.testing.containerd import FOREVER, IMAGE, VERSIONS, Containerd, ContainerdOptions


async def record(containerd: Containerd) -> dict[str, list[bytes]]:
    channel = await Channel.open(str(containerd.socket))
    async with channel.stream(f"{wire.EVENTS}/Subscribe", encode({1: list(FILTERS)})) as stream:
        await channel.call(f"{wire.VERSION}/Version", b"")
        await asyncio.to_thread(live, containerd)
        events: list[bytes] = []
        with contextlib.suppress(TimeoutError):  # all have come
            while True:
                async with asyncio.timeout(2):
                    events.append(await anext(stream))
    said = {"events": events, "namespaces": [await channel.call(f"{wire.NAMESPACES}/List", b"")]}
    for namespace in ("default", "k8s.io"):
        within = {"containerd-namespace": namespace}
        async with channel.stream(f"{wire.CONTAINERS}/ListStream", b"", within) as found:
            said[f"containers {namespace}"] = [each async for each in found]
        said[f"tasks {namespace}"] = [await channel.call(f"{wire.TASKS}/List", b"", within)]
    within = {"containerd-namespace": "default"}
    said["task web"] = [await channel.call(f"{wire.TASKS}/Get", encode({1: "web"}), within)]
    channel.close()
    return said


def live(containerd: Containerd) -> None:
    containerd.run("web", "--label", "tier=front")
    containerd.exec("web", "true")
    containerd.ctr("tasks", "pause", "web")
    pod = containerd.pods.run("shop", labels={"app": "shop"})
    containerd.pods.start(containerd.pods.create(pod, "main", IMAGE, FOREVER))


def main() -> None:
    for version in VERSIONS:
        with Containerd(ContainerdOptions(version=version)) as containerd:
            said = asyncio.run(record(containerd))
        written = {name: [base64.b64encode(each).decode() for each in messages] for name, messages in said.items()}
        Path(__file__).with_name(f"{version}.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
