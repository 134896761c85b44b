import sys

import pytest

from bmp.artifact import guard
from bmp.cli.content import check_content
from bmp.errors import ArtifactError, ConfigError, UnsafeError


def put(directory, name, content=b"\xffno model"):
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)


@pytest.mark.parametrize("name", ["model.tflite", "model.h5", "variants/a.h5", "assets/x.keras", "MODEL.H5"])
def test_every_kind_of_model_file_is_looked_into(tmp_path, name):
    put(tmp_path, name)
    with pytest.raises(ArtifactError):
        check_content(tmp_path)


def test_a_graph_is_looked_into(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(guard, "check_saved_model", looked.append)
    check_content(tmp_path)
    put(tmp_path, "saved_model.pb")
    check_content(tmp_path)
    assert looked == [tmp_path]


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "saved_model.cpb"])
def test_a_graph_that_another_loader_would_prefer_is_refused(tmp_path, name):
    put(tmp_path, name)
    with pytest.raises(UnsafeError, match=f"{name} is refused"):
        check_content(tmp_path)


@pytest.mark.parametrize("name", ["bmp/evil.py", "assets/evil.PY"])
def test_a_program_is_refused(tmp_path, name):
    put(tmp_path, name)
    with pytest.raises(UnsafeError, match="is a program, which a recipe could name"):
        check_content(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "model: {build: 'evil.py:build'}",
        "data: {source: python, args: {function: /usr/lib/python3/os.py:system}}",
        'model: {build: "evil\\x2epy:build"}',
        "x: &a ['net.py:build']\ny: *a",
        "? evil.py:build\n: 1",
    ],
)
def test_a_recipe_that_names_code_is_refused(tmp_path, text):
    put(tmp_path, "bmp/recipe.yaml", text.encode())
    with pytest.raises(UnsafeError, match=r"a function of a Python file, which would run"):
        check_content(tmp_path)


def test_recipes_of_the_shelf_pass_and_cost_nothing(tmp_path):
    laughs = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'ha'}]" for n in range(30))
    put(
        tmp_path,
        "bmp/recipe.yaml",
        b"model: {build: mlp}\ndata: {source: csv, args: {path: a.csv}}\n" + laughs.encode(),
    )
    put(tmp_path, "bmp/plots/history.png")
    check_content(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"), [(b"a: [", "is no YAML"), (b"\xff\xff\xff", "is no YAML"), (b" " * 2**21, "2,097,152 bytes")]
)
def test_what_is_no_recipe_is_told(tmp_path, content, says):
    put(tmp_path, "bmp/recipe.yaml", content)
    with pytest.raises(ArtifactError, match=says):
        check_content(tmp_path)


def test_what_cannot_be_looked_into_is_not_passed_over(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # importing it fails as if it were not there
    put(tmp_path, "model.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ConfigError, match="h5py is not installed"):
        check_content(tmp_path)
