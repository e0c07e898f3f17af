"""The log that faults leave is read whole, half lines and all."""

from stockade.testing.chaos.invariants import records


def test_half_a_line_hides_neither_itself_nor_what_follows_on_it() -> None:
    whole = '{"event": "enforced", "lost": {"docker": 1}, "outcome": "done", "version": 3}'
    torn = '{"event": "enforced", "outcome": "do'
    log = f'{whole}\nno JSON {{"here\n{torn}{whole}\n\n{torn}\n{whole}\n'
    assert [each["version"] for each in records(log)] == [3, 3, 3]
    assert next(records(whole))["lost"] == {"docker": 1}
