"""What hosts should and do enforce: only those that a change touches hear of it, and versions never go back."""

from stockade.controller.roster import Roster
from stockade.core.model.ids import HostId, Revision, Version
from stockade.core.model.intent import Intent
from stockade.core.model.policy import Births
from stockade.seams.store import Realised
from stockade.wire import Counters, Outcome

A, B = HostId("host-a"), HostId("host-b")


def intent(host: HostId, version: int, fingerprint: str, revision: int = 1) -> Intent:
    return Intent(host, Revision(revision), Version(version), Births.PASS, fingerprint=fingerprint)


def outcome(host: HostId, version: int, fingerprint: str, revision: int = 1, error: str = "") -> Outcome:
    return Outcome(host, Revision(revision), Version(version), fingerprint, error)


def told(roster: Roster, said: Outcome) -> Realised | None:
    record = roster.judge(said, 1.0)
    if record is not None:
        roster.confirm(record)
    return record


def test_only_hosts_whose_fingerprint_moved_hear() -> None:
    roster = Roster()
    assert roster.publish({A: intent(A, 1, "x"), B: intent(B, 1, "y")}, Revision(1)) == (A, B)
    assert roster.publish({A: intent(A, 2, "x"), B: intent(B, 2, "z")}, Revision(1)) == (B,)
    assert roster.publish({A: intent(A, 2, "x")}, Revision(1)) == ()


def test_a_realised_version_never_goes_backwards() -> None:
    roster = Roster()
    roster.publish({A: intent(A, 5, "five")}, Revision(1))
    told(roster, outcome(A, 5, "five", revision=9))
    assert told(roster, outcome(A, 4, "four", revision=8)) is None
    assert told(roster, outcome(A, 5, "four and a half", revision=8)) is None
    assert roster.in_force(A) == 5


def test_a_host_vouches_for_what_it_has_under_an_older_number_too() -> None:
    """It was told of a revision whose content did not change after; the controller has started anew since."""
    roster = Roster((Realised(A, 0.0, Version(5), Revision(9), "five"),))
    roster.publish({A: intent(A, 5, "five", revision=9)}, Revision(9))
    assert roster.waiting() == (A,)
    record = told(roster, outcome(A, 5, "five", revision=8))
    assert record is not None
    assert (record.version, record.revision) == (5, 9)
    assert roster.waiting() == ()


def test_what_is_vouched_for_again_hides_no_failure() -> None:
    roster = Roster()
    roster.publish({A: intent(A, 5, "five", revision=9)}, Revision(9))
    told(roster, outcome(A, 5, "five", revision=9))
    told(roster, outcome(A, 6, "six", revision=10, error="refused"))
    told(roster, outcome(A, 5, "five", revision=8))
    assert roster.waiting() == (A,)


def test_a_failure_keeps_the_version_that_is_in_force() -> None:
    roster = Roster()
    roster.publish({A: intent(A, 5, "five")}, Revision(1))
    told(roster, outcome(A, 5, "five"))
    roster.publish({A: intent(A, 6, "six")}, Revision(1))
    told(roster, outcome(A, 6, "six", revision=2, error="refused"))
    assert roster.in_force(A) == 5
    assert roster.waiting() == (A,)
    told(roster, outcome(A, 6, "six", revision=2))
    assert (roster.in_force(A), roster.waiting()) == (6, ())


def test_a_host_for_which_a_version_changes_nothing_has_it() -> None:
    roster = Roster()
    roster.publish({A: intent(A, 5, "same")}, Revision(1))
    told(roster, outcome(A, 5, "same"))
    roster.publish({A: intent(A, 6, "same", revision=7)}, Revision(1))
    caught_up = roster.caught_up(2.0)
    assert [(each.version, each.revision) for each in caught_up] == [(6, 7)]
    roster.record(caught_up)
    assert roster.caught_up(3.0) == ()
    roster.publish({A: intent(A, 7, "other")}, Revision(1))
    assert roster.in_force(A) == 6


def test_an_outcome_of_what_is_wanted_counts_for_its_newest_version() -> None:
    roster = Roster()
    roster.publish({A: intent(A, 6, "same", revision=7)}, Revision(1))
    record = told(roster, outcome(A, 5, "same"))
    assert record is not None
    assert (record.version, record.revision) == (6, 7)


def test_a_host_that_is_gone_takes_its_counters_along() -> None:
    roster = Roster()
    roster.publish({A: intent(A, 1, "x")}, Revision(1))
    roster.counters[A] = Counters(A, tracked=3)
    roster.publish({}, Revision(1))
    assert roster.counters == {}
