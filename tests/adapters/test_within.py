"""What is done in another network namespace, and what is not done there because it is ours."""

import threading
from pathlib import Path

import pytest

from stockade.within import within

OWN = "/proc/self/ns/net"


def test_what_is_meant_for_our_own_namespace_runs_where_it_is_called() -> None:
    assert within(OWN, threading.get_ident) == threading.get_ident()


def test_another_namespace_than_the_one_that_is_meant_is_not_entered() -> None:
    with pytest.raises(FileNotFoundError, match="another network namespace"):
        within(OWN, threading.get_ident, inode=Path(OWN).stat().st_ino + 1)


def test_a_namespace_that_is_gone_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        within("/proc/self/ns/none", threading.get_ident)
