import pytest

from bmp.errors import RegistryError
from bmp.registry.events import Published, State, read_event

BASE = {"sequence": 1, "time": "2026-01-01T00:00:00.000+00:00", "sha256": "", "previous_sha256": ""}


def test_lines_of_before_are_understood():
    event = read_event("digits", {**BASE, "event": "publish", "version": 1})
    assert isinstance(event, Published) and event.manifest_sha256 is None and event.facts is None


def test_what_a_newer_bmp_adds_to_a_line_is_passed_over():
    assert read_event("digits", {**BASE, "event": "publish", "version": 1, "colour": "red"}).version == 1


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"event": "paint"}, "event"),
        ({"event": ["publish"]}, "event"),
        ({"version": "1"}, "version"),
        ({"version": True}, "version"),
        ({"version": 0}, "version"),
        ({"version": None}, "version"),
        ({"time": "today"}, "time"),
        ({"time": "2026-01-01T00:00:00"}, "time"),
        ({"facts": []}, "facts"),
        ({"event": "alias", "alias": 3, "previous": None}, "alias"),
        ({"event": "tag", "key": "a"}, "value"),
    ],
)
def test_what_cannot_be_understood_is_told(changes, where):
    with pytest.raises(RegistryError, match=f"Line 1 of the journal of 'digits' cannot be understood .'{where}"):
        read_event("digits", {**BASE, "event": "publish", "version": 1, **changes})


def test_a_rollback_that_cannot_be_still_says_what_the_alias_names():
    state = State("digits")
    for version, rollback in ((1, False), (2, False), (7, True)):
        line = {**BASE, "event": "alias", "alias": "a", "version": version, "previous": None, "rollback": rollback}
        state.apply(read_event("digits", line))
    assert state.aliases == {"a": 7}
    assert state.find_earlier("a") == [1]
