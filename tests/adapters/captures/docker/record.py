"""Write the captures beside this file: what a real engine (``stockade.testing.engine``) answers to what we ask.

Run as root from the repository: ``.venv/bin/python tests/adapters/captures/docker/record.py``.
"""

import json
import time
from pathlib import Path

from stockade.testing.engine import Engine

HERE = Path(__file__).parent


def get(engine: Engine, path: str) -> bytes:
    """Ask with a tool that shares no code with what the captures test."""
    words = ["curl", "-sS", "--unix-socket", str(engine.socket), f"http://docker/v1.41{path}"]
    return engine.on_host(*words).encode()


def scene(engine: Engine) -> None:
    """One container of each kind."""
    engine.docker(
        "network", "create", "--subnet", "172.29.9.0/24", "-o", "com.docker.network.bridge.name=stk-front", "front"
    )
    engine.docker("network", "create", "--ipv6", "--subnet", "fd00:99::/64", "--internal", "back")
    compose = ("-l", "com.docker.compose.project=shop", "-l", "com.docker.compose.service=web")
    engine.run("web", *compose, "-p", "8080:80", "-p", "127.0.0.1:8081:81/udp", "--network", "front")
    engine.docker("network", "connect", "back", "web")
    engine.run("plain", "-p", "[::1]:9090:90")
    engine.run("side", "--network", "container:web")
    engine.run("onhost", "--network", "host")
    engine.run("alone", "--network", "none")
    engine.run("paused")
    engine.docker("pause", "paused")
    engine.run("ended")
    engine.docker("stop", "-t", "0", "ended")
    engine.docker("create", "--name", "idle", "--link", "plain:friend", engine.image, "true")


def write(engine: Engine, name: str, answer: bytes) -> None:
    """Keep an answer, with the folders that an installed engine has in place of this one's."""
    text = json.dumps(json.loads(answer), indent=1, sort_keys=True)
    text = text.replace(f"{engine.root}/data", "/var/lib/docker").replace(f"{engine.root}/exec", "/var/run/docker")
    (HERE / f"{name}.json").write_text(text + "\n")


def main() -> None:
    """Record everything anew."""
    with Engine() as engine:
        started = int(time.time())
        scene(engine)
        write(engine, "networks", get(engine, "/networks"))
        listed = get(engine, "/containers/json?all=1")
        write(engine, "containers", listed)
        for each in json.loads(listed):
            name = min(each["Names"], key=len).removeprefix("/")
            write(engine, f"container-{name}", get(engine, f"/containers/{each['Id']}/json"))
        processes = engine.on_host("ps", "-eo", "args").splitlines()
        proxies = [line for line in processes if "docker-proxy -proto" in line]
        (HERE / "proxies.txt").write_text("\n".join(sorted(proxies)) + "\n")
        engine.docker("rename", "web", "shop-web")
        engine.remove("plain")
        engine.docker("network", "disconnect", "back", "shop-web")
        write(engine, "refusal", get(engine, "/containers/nobody/json"))
        events = get(engine, f"/events?since={started}&until={int(time.time()) + 1}")
        (HERE / "events.jsonl").write_bytes(events + b"\n")


if __name__ == "__main__":
    main()
