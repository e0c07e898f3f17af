"""A real Podman for the tests of this folder: root's, and that of a user called ann."""

from collections.abc import Iterator

import pytest

from stockade.testing.podman import Podman, PodmanOptions, why_not, why_not_rootless


@pytest.fixture(scope="session")
def able() -> None:
    """Podman can run here."""
    if reason := why_not():
        pytest.skip(f"this machine: {reason}")


@pytest.fixture(scope="session")
def able_rootless() -> None:
    """A user's Podman can run here."""
    if reason := why_not_rootless():
        pytest.skip(f"this machine: {reason}")


@pytest.fixture(scope="session")
def _running(able: None) -> Iterator[Podman]:
    with Podman(PodmanOptions(users=() if why_not_rootless() else ("ann",))) as podman:
        yield podman


@pytest.fixture
def podman(_running: Podman) -> Iterator[Podman]:
    """The session's Podman, empty before and after."""
    yield _running
    _running.clear()


@pytest.fixture
def rootless(able_rootless: None, podman: Podman) -> Podman:
    """The same, where a user's Podman can run too."""
    return podman
