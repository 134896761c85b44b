import re
from pathlib import Path

import PIL.Image
import pytest
from click.testing import CliRunner

from bmp.cli.data import data_group
from bmp.errors import BmpError


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def describe(*arguments: str) -> str:
    result = CliRunner().invoke(data_group, ["describe", *arguments])
    if isinstance(result.exception, BmpError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_recipe_is_described_with_its_own_seed():
    out = describe("digits")
    assert "1,797 examples; 10 classes" in out and "1,259" in out
    assert out.endswith("picture  digits-data.png\n")
    with PIL.Image.open("digits-data.png") as image:
        assert image.width == 1440


def test_a_recipe_takes_overrides():
    out = describe("digits", "--set", "data.args.name=wine", "--plot", "w.png")
    assert "178 examples; 3 classes" in out and Path("w.png").is_file()


def test_a_source_of_the_catalog_takes_arguments():
    out = describe("synthetic", "--set", "examples=90", "--set", "kind=number", "--set", "shape=[2, 2]")
    assert "90 examples; 1 number to predict" in out
    assert [path.name for path in Path().iterdir()] == ["synthetic-data.png"]


def test_all_that_is_bad_is_listed():
    rows = "".join(f"{number},{'uv'[number % 2]}\n" for number in range(40))
    Path("rows.csv").write_text(f"a,y\nhuh,u\n{rows}3\n")
    out = describe("csv", "--set", "path=rows.csv", "--set", "target=y")
    assert "cannot be used: 2" in out and "rows.csv, line 2: 'a' is 'huh'" in out
    assert "rows.csv, line 43: the row has 1 cells; expected 2" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digitz"], "'digitz' is neither a recipe"),
        (["csv"], "The source 'csv' needs the argument 'path'"),
        (["csv", "--set", "path=nowhere.csv", "--set", "target=y"], r"There is no file nowhere\.csv"),
        (["digits", "--set", "data.args.name=moons"], "'name' is 'moons'"),
        (["synthetic", "--set", "examples=60", "--plot", "no/such/folder.png"], "The picture cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message):
    with pytest.raises(BmpError) as caught:
        describe(*arguments)
    assert re.search(message, str(caught.value))
