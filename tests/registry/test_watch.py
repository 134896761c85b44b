import subprocess
import sys

import pytest
from small_artifact import make_artifact

from bmp.registry import Registry
from bmp.registry.watch import Watcher


@pytest.fixture
def artifact(tmp_path):
    return make_artifact(tmp_path / "artifact")


@pytest.fixture
def registry(tmp_path, artifact):
    registry = Registry(tmp_path / "registry")
    registry.publish(artifact, "digits")
    return registry


def told(events):
    return [(event.model, event.event, event.version) for event in events]


def test_tells_what_happened_since_it_was_asked_last(registry, artifact):
    watcher = Watcher(registry.root)
    assert watcher.poll() == []
    registry.publish(artifact, "digits")
    registry.set_alias("digits", "production", 2)
    assert told(watcher.poll()) == [("digits", "publish", 2), ("digits", "alias", 2)]
    assert watcher.poll() == []
    registry.tag("digits", 2, "team", "vision")
    assert told(watcher.poll()) == [("digits", "tag", 2)]


def test_a_model_that_comes_later_is_told_of_too(tmp_path, artifact):
    registry = Registry(tmp_path / "later" / "registry")
    watcher = Watcher(registry.root)
    assert watcher.poll() == []
    registry.publish(artifact, "letters")
    assert told(watcher.poll()) == [("letters", "publish", 1)]


def test_a_version_is_there_when_it_is_told_of(registry, artifact):
    events = registry.watch(poll_s=0.01)
    registry.publish(artifact, "letters")
    registry.set_alias("letters", "production", 1)
    for event in (next(events), next(events)):
        assert registry.resolve(event.model).number == event.version
    assert registry.aliases("letters") == {"production": 1}


PUBLISH = """
import sys
from pathlib import Path
from bmp.registry import Registry
registry = Registry(sys.argv[1])
for _ in range(3):
    registry.set_alias("digits", "production", registry.publish(Path(sys.argv[2]), "digits").number)
"""


def test_tells_of_other_processes(registry, artifact):
    events = registry.watch(poll_s=0.02)
    publisher = subprocess.Popen([sys.executable, "-c", PUBLISH, str(registry.root), str(artifact)])
    seen = told(next(events) for _ in range(6))
    assert publisher.wait(timeout=60) == 0
    assert seen == [("digits", kind, number) for number in (2, 3, 4) for kind in ("publish", "alias")]


def test_a_line_that_is_being_written_is_told_of_when_it_is_whole(registry, artifact):
    watcher = Watcher(registry.root)
    registry.publish(artifact, "digits")
    path = registry.root / "digits" / "journal.jsonl"
    whole = path.read_bytes()
    for cut in (1, 50, 10):
        path.write_bytes(whole[:-cut])
        assert watcher.poll() == []
    path.write_bytes(whole)
    assert told(watcher.poll()) == [("digits", "publish", 2)]


def test_a_line_that_was_taken_back_does_not_hide_the_next(registry, artifact):
    watcher = Watcher(registry.root)
    path = registry.root / "digits" / "journal.jsonl"
    before = path.read_bytes()
    registry.tag("digits", 1, "a", "1")
    assert told(watcher.poll()) == [("digits", "tag", 1)]
    path.write_bytes(before)
    registry.set_alias("digits", "production", 1)  # has the number of the line that was taken back
    assert told(watcher.poll()) == [("digits", "alias", 1)]


def test_a_journal_out_of_a_backup_tells_nothing_twice(registry, artifact):
    path = registry.root / "digits" / "journal.jsonl"
    backup = path.read_bytes()
    registry.tag("digits", 1, "a", "1")
    registry.tag("digits", 1, "b", "1")
    watcher = Watcher(registry.root)
    path.write_bytes(backup)
    assert watcher.poll() == []
    registry.set_alias("digits", "production", 1)
    assert told(watcher.poll()) == [("digits", "alias", 1)]


def test_a_journal_that_was_altered_holds_up_no_other(registry, artifact):
    registry.publish(artifact, "letters")
    watcher = Watcher(registry.root)
    path = registry.root / "digits" / "journal.jsonl"
    intact = path.read_bytes()
    path.write_bytes(intact.replace(b'"version":1', b'"version":7') + b"{}\n")
    registry.publish(artifact, "letters")
    assert told(watcher.poll()) == [("letters", "publish", 2)]
    assert "has been altered" in str(watcher.failures["digits"])
    path.write_bytes(intact)
    registry.publish(artifact, "digits")
    assert told(watcher.poll()) == [("digits", "publish", 2)]
    assert watcher.failures == {}
