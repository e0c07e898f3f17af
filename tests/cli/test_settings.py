"""Settings come from flags, then variables, then a file, then what is built in, and say which."""

from pathlib import Path

import pytest

from stockade.cli.settings import Common, Format, resolve
from stockade.errors import StockadeError


def origins(flags: Common, environment: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {each.name: (each.value, each.origin) for each in resolve(flags, environment).values}


def test_the_order(tmp_path: Path) -> None:
    file = tmp_path / "stockade.toml"
    file.write_text('state = "/from/file"\nsocket = "/from/file.sock"\ndocker-host = "unix:///from/file"\n')
    found = origins(
        Common(state=Path("/from/flag"), config=file), {"STOCKADE_STATE": "/no", "STOCKADE_SOCKET": "/from/variable"}
    )
    assert found["state"] == ("/from/flag", "flag --state")
    assert found["socket"] == ("/from/variable", "variable STOCKADE_SOCKET")
    assert found["docker-host"] == ("unix:///from/file", f"file {file}")
    assert found["output"] == ("table", "default")


def test_the_socket_lies_in_the_state_folder() -> None:
    assert resolve(Common(state=Path("/s")), {"HOME": "/nowhere"}).socket == Path("/s/api.sock")


def test_docker_host_is_respected() -> None:
    found = origins(Common(state=Path("/s")), {"HOME": "/nowhere", "DOCKER_HOST": "unix:///d.sock"})
    assert found["docker-host"] == ("unix:///d.sock", "variable DOCKER_HOST")


def test_containerds_own_variable_is_respected() -> None:
    found = origins(Common(state=Path("/s")), {"HOME": "/nowhere", "CONTAINERD_ADDRESS": "/c.sock"})
    assert found["containerd-address"] == ("/c.sock", "variable CONTAINERD_ADDRESS")


def test_output_by_variable() -> None:
    assert resolve(Common(), {"HOME": "/nowhere", "STOCKADE_OUTPUT": "json"}).output is Format.JSON


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stat = '/x'", 'unknown setting "stat"'),
        ("state = 3", "must be a text"),
        ("state = ", "cannot use the settings file"),
        ("output = 'xml'", 'unknown output format "xml"'),
    ],
)
def test_a_file_that_cannot_be_used(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "stockade.toml"
    file.write_text(text)
    with pytest.raises(StockadeError, match=said) as raised:
        resolve(Common(), {"STOCKADE_CONFIG": str(file)})
    assert raised.value.remedy


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StockadeError, match="it is not there"):
        resolve(Common(config=tmp_path / "none.toml"), {})


EXPORTED = {"HOME": "/nowhere", "STOCKADE_NETFLOW_EXPORTERS": "192.0.2.1, 198.51.100.0/24"}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("off", None),
        ("OFF ", None),
        ("192.0.2.10:2055", ("192.0.2.10", 2055)),
        ("[2001:db8::1]:4739", ("2001:db8::1", 4739)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
    ],
)
def test_where_devices_are_heard_and_which(text: str, meant: tuple[str, int] | None) -> None:
    found = resolve(Common(), EXPORTED | {"STOCKADE_NETFLOW": text})
    assert found.netflow == meant
    assert [str(each) for each in found.netflow_exporters] == ["192.0.2.1/32", "198.51.100.0/24"]


@pytest.mark.parametrize("text", ["2055", "192.0.2.10", "192.0.2.10:0", "192.0.2.10:70000", "router:2055", ":2055"])
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(StockadeError, match="no address and port"):
        resolve(Common(), EXPORTED | {"STOCKADE_NETFLOW": text})


def test_whoever_hears_devices_names_them() -> None:
    on = {"HOME": "/nowhere", "STOCKADE_NETFLOW": "192.0.2.10:2055"}
    with pytest.raises(StockadeError, match="no exporter is named"):
        resolve(Common(), on)
    with pytest.raises(StockadeError, match="has host bits set"):
        resolve(Common(), on | {"STOCKADE_NETFLOW_EXPORTERS": "192.0.2.1/24"})
    assert resolve(Common(), {"HOME": "/nowhere"}).netflow is None
