"""Reloading under load: which answers are wrong while versions come and go."""

import pytest
from small_server import serve_small, write_answer

from benchmarks.load import reload
from benchmarks.load.answer import Answer
from benchmarks.load.open_loop import write_request

REQUEST = write_request("/ask", b"{}", "text/plain")
ANSWERS = {1: Answer(b"[1.0]"), 2: Answer(b"[2.0]")}


def answer_of(version: int, said: int | None = None) -> bytes:
    body = b"[%d.0]" % (version if said is None else said)
    return write_answer(body, fields=b"Bmp-Model: n/%d\r\n" % version)


def look(watch: reload._Watch, connection: int, version: int, said: int | None = None) -> bool:
    head, _, body = answer_of(version, said).partition(b"\r\n\r\n")
    return watch.look(connection, head, body)


def test_a_connection_may_be_late_and_must_not_go_back() -> None:
    watch = reload._Watch(ANSWERS, (0, 1))
    assert look(watch, 0, 1) and not watch.is_live(2)
    assert look(watch, 1, 1) and watch.is_live(2)
    watch.move(2)
    assert not watch.is_live(2)
    assert look(watch, 0, 1) and look(watch, 0, 2) and look(watch, 1, 1)
    assert not look(watch, 0, 1), "it has seen the new one"
    assert look(watch, 1, 2) and watch.is_live(2)
    watch.move(1)
    assert look(watch, 0, 1), "the version that is wanted again is no step back"


@pytest.mark.parametrize(("version", "said"), [(1, 2), (2, 1), (3, 3)])
def test_an_answer_has_to_be_that_of_the_version_it_names(version: int, said: int) -> None:
    assert not look(reload._Watch(ANSWERS, (0, 1)), 0, version, said)


def test_without_a_version_it_is_wrong() -> None:
    head, _, body = write_answer(b"[1.0]").partition(b"\r\n\r\n")
    assert not reload._Watch(ANSWERS, (0, 1)).look(0, head, body)


def test_moves_are_timed_and_mistakes_counted() -> None:
    versions = [1]
    wrong = {5: answer_of(1, 2), 9: write_answer(b"", b"503 Busy")}

    with serve_small(REQUEST, lambda number: [wrong.get(number) or answer_of(versions[-1])]) as server:
        found = reload.reload_under_load(
            server.address, REQUEST, ANSWERS, versions.append, rate_per_s=400, times=4, connections=3
        )
    assert versions == [1, 2, 1, 2, 1]
    assert (found.reloads, found.failed, found.asked) == (4, 1, server.asked)
    assert found.wrong == 1 and len(found.live_s) == 4


def test_a_version_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "_LONGEST_S", 0.5)
    with (
        serve_small(REQUEST, lambda _: [answer_of(1)]) as server,
        pytest.raises(TimeoutError, match=r"a version was not live within 0\.5 s"),
    ):
        reload.reload_under_load(server.address, REQUEST, ANSWERS, lambda _: None, 200, times=1, connections=2)
