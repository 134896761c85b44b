import sys
from pathlib import Path

import pytest

from bmp.errors import ConfigError, DataError
from bmp.plugins import load_function, name_the_line


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "mine.py") -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
        return name

    return write


def test_returns_the_function(write):
    write("def double(x):\n    return 2 * x\n")
    assert load_function("mine.py:double")(4) == 8


def test_an_absolute_path_will_do(write):
    path = Path(write("def one():\n    return 1\n")).resolve()
    assert load_function(f"{path}:one")() == 1


def test_the_file_may_import_its_neighbours_and_leaves_the_path_alone(write):
    write("VALUE = 7\n", "deep/bmp_test_neighbour.py")
    write("from bmp_test_neighbour import VALUE\ndef get():\n    return VALUE\n", "deep/mine.py")
    before = list(sys.path)
    try:
        assert load_function("deep/mine.py:get")() == 7
    finally:
        sys.modules.pop("bmp_test_neighbour", None)
    assert sys.path == before


def test_files_of_one_name_in_two_folders_are_two(write):
    for number in (1, 2):
        write(f"def get():\n    return {number}\n", f"folder{number}/mine.py")
    assert [load_function(f"folder{number}/mine.py:get")() for number in (1, 2)] == [1, 2]


def test_dataclasses_of_the_file_work(write):
    write(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Pair:\n    x: int\ndef make():\n    return Pair(3)\n"
    )
    assert load_function("mine.py:make")().x == 3


@pytest.mark.parametrize("reference", ["mine.py", "mine:build", "mine.py:", ":build", "mine.py:a-b", ""])
def test_a_reference_of_another_form_is_refused(reference, write):
    write("def build(): pass\n")
    with pytest.raises(ConfigError, match=r"expected file\.py:function"):
        load_function(reference)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no file nowhere\.py, which 'nowhere\.py:build' names"):
        load_function("nowhere.py:build")


def test_a_missing_function_gets_a_guess(write):
    write("def build_net(): pass\ndef _hidden(): pass\nnumber = 3\n")
    with pytest.raises(ConfigError, match=r"no function 'build_ned'; it has build_net\. Did you mean 'build_net'\?"):
        load_function("mine.py:build_ned")
    with pytest.raises(ConfigError, match="it has build_net"):
        load_function("mine.py:number")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = unknown\n", "mine.py, line 2: NameError: name 'unknown' is not defined."),
        ("x = 1\nif:\n", "mine.py, line 2: SyntaxError: "),
        ("\n\nimport json\njson.loads('{')\n", "mine.py, line 4: JSONDecodeError: "),
        ("raise ValueError\n", "mine.py, line 1: ValueError: no message."),
    ],
)
def test_a_file_that_does_not_run_is_told_with_its_line(write, text, message):
    write(text)
    with pytest.raises(ConfigError) as caught:
        load_function("mine.py:build")
    assert message in str(caught.value)
    assert not [
        name for name in sys.modules if name.startswith("bmp_plugin_mine") and "build" in vars(sys.modules[name])
    ]


def test_a_call_that_fails_is_told_with_the_innermost_line_of_the_file(write):
    write("import json\ndef outer():\n    return inner()\ndef inner():\n    return json.loads('{')\n")
    function = load_function("mine.py:outer")
    with (
        pytest.raises(DataError, match=r"mine\.py, line 5: JSONDecodeError"),
        name_the_line("mine.py:outer", DataError),
    ):
        function()


def test_an_error_of_our_own_passes_as_it_is():
    with pytest.raises(ConfigError, match=r"^as it is$"), name_the_line("mine.py:outer", DataError):
        raise ConfigError("as it is")
