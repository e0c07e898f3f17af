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
