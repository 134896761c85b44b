import json
import os

import pytest

from bmp.errors import RegistryError
from bmp.registry.journal import Position, append_event, follow, read_events, read_journal


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    append_event(path, "publish", version=1)
    append_event(path, "alias", alias="production", version=1, previous=None)
    append_event(path, "publish", version=2)
    return path


def test_there_is_nothing_before_the_first_event(tmp_path):
    assert read_journal(tmp_path / "journal.jsonl") == []


def test_events_come_back_in_order(journal):
    records = read_journal(journal)
    assert [(record["sequence"], record["event"], record["version"]) for record in records] == [
        (1, "publish", 1),
        (2, "alias", 1),
        (3, "publish", 2),
    ]
    assert records[1]["alias"] == "production" and records[1]["previous"] is None


def test_append_returns_the_record_that_is_read(journal):
    assert append_event(journal, "publish", version=3) == read_journal(journal)[-1]


def test_appending_never_changes_what_is_written(journal):
    before = journal.read_bytes()
    append_event(journal, "publish", version=3)
    assert journal.read_bytes().startswith(before)


def edit(lines):
    lines[1] = lines[1].replace(b"production", b"protection")


def edit_and_forget_the_chain(lines):
    record = json.loads(lines[1])
    lines[1] = json.dumps({**record, "version": 9}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def swap(lines):
    lines[0], lines[1] = lines[1], lines[0]


TAMPERING = {
    "edited": edit,
    "edited with another number": edit_and_forget_the_chain,
    "first line deleted": lambda lines: lines.pop(0),
    "middle line deleted": lambda lines: lines.pop(1),
    "line doubled": lambda lines: lines.insert(1, lines[0]),
    "lines swapped": swap,
    "line of another kind": lambda lines: lines.append(b"[]\n"),
    "number": lambda lines: lines.append(b"1\n"),
    "empty line": lambda lines: lines.insert(1, b"\n"),
    "not JSON": lambda lines: lines.append(b"published 3\n"),
    "not UTF-8": lambda lines: lines.append(b"\xff\n"),
}


@pytest.mark.parametrize("tamper", TAMPERING.values(), ids=TAMPERING)
def test_tampering_is_found_and_nothing_is_appended_to_it(journal, tamper):
    lines = journal.read_bytes().splitlines(keepends=True)
    tamper(lines)
    journal.write_bytes(b"".join(lines))
    with pytest.raises(RegistryError, match="has been altered"):
        read_journal(journal)
    with pytest.raises(RegistryError, match="has been altered"):
        append_event(journal, "publish", version=3)
    assert journal.read_bytes() == b"".join(lines)


def test_the_line_is_named(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    del lines[1]
    journal.write_bytes(b"".join(lines))
    with pytest.raises(RegistryError, match=r"Line 2 of .*journal\.jsonl"):
        read_journal(journal)


@pytest.mark.parametrize("missing", [1, 2, 10, 100])
def test_a_last_line_that_a_crash_cut_short_does_not_count_and_makes_way(journal, missing):
    records = read_journal(journal)
    os.truncate(journal, journal.stat().st_size - missing)
    assert read_journal(journal) == records[:2]
    added = append_event(journal, "publish", version=3)
    assert read_journal(journal) == [*records[:2], added]


def test_a_line_cut_short_in_the_middle_is_tampering(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + b"\n"
    journal.write_bytes(b"".join(lines))
    with pytest.raises(RegistryError, match="has been altered"):
        read_journal(journal)


def test_every_byte_counts(journal):
    intact = journal.read_bytes()
    for index, byte in enumerate(intact[:-1]):
        journal.write_bytes(intact[:index] + bytes([byte ^ 1 << index % 8]) + intact[index + 1 :])
        with pytest.raises(RegistryError, match="has been altered"):
            read_journal(journal)


def test_goes_on_from_where_it_was(journal):
    records, position = read_events(journal)
    assert read_events(journal, position) == ([], position)
    added = append_event(journal, "publish", after=position, version=3)
    assert read_events(journal, position) == ([added], follow(position, added))
    with pytest.raises(RegistryError, match="Line 4 of"):
        read_events(journal, Position(position.offset, position.sequence, "0" * 64))
    assert read_journal(journal) == [*records, added]


def test_times_never_go_back_also_where_the_clock_does(tmp_path):
    ahead = "2199-01-01T00:00:00.000+00:00"
    append_event(tmp_path / "journal", "publish", after=Position(time=ahead), version=1)
    append_event(tmp_path / "journal", "publish", version=2)
    assert [record["time"] for record in read_journal(tmp_path / "journal")] == [ahead, ahead]


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"1" * 5000, b'{"sha256":"\\ud800","time":""}', b"{}", b"\x00", b"NaN"]
)
def test_what_is_no_line_at_all_is_told(journal, line):
    journal.write_bytes(journal.read_bytes() + line + b"\n")
    with pytest.raises(RegistryError, match="Line 4 of"):
        read_journal(journal)


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("elsewhere"), os.mkfifo, os.mkdir])
def test_only_a_plain_file_is_a_journal(tmp_path, make):
    (tmp_path / "elsewhere").touch()
    make(tmp_path / "journal")
    with pytest.raises(RegistryError, match="cannot be read"):
        read_journal(tmp_path / "journal")
