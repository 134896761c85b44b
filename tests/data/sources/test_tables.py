"""CSV and Parquet: what columns are, and what is wrong with rows."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.config import DataConfig
from bmp.data import SOURCES, load_data
from bmp.data.scan import scan_source
from bmp.data.sources import growing
from bmp.data.sources.growing import Growing, Texts
from bmp.errors import ConfigError, DataError


@pytest.fixture
def read(tmp_path):
    def read(text: str, target="y", **args):
        path = tmp_path / "rows.csv"
        path.write_bytes(text.encode())
        return SOURCES.bind("csv", {"path": str(path), "target": target, **args})()

    return read


def kinds(source) -> dict[str, str]:
    return {field.name: field.kind for field in source.fields}


def columns(source):
    return {name: column.tolist() for name, column in source.read(np.arange(len(source))).items()}


def bad(source, tmp_path) -> list[str]:
    return [str(found).replace(f"{tmp_path}/", "") for found in scan_source(source).bad]


def test_columns_of_numbers_are_numbers_and_others_categories(read):
    source = read("a,b,c,y\n1,x,-2.5e3,no\n +2 ,Köln,.5,yes\n")
    assert kinds(source) == {"a": "number", "b": "category", "c": "number"}
    assert columns(source) == {"a": [1, 2], "b": ["x", "Köln"], "c": [-2500, 0.5]}
    assert source.target.labels == ("no", "yes") and source.read_targets(np.arange(2)).tolist() == [0, 1]


def test_missing_numbers_are_nan_and_missing_categories_are_empty(read):
    source = read("a,b,y\n1,x,u\n,,v\nNA,NA,u\n?,x,v\nnan,x,u\n2,x,v\n3,x,v\n")
    found = columns(source)
    assert np.isnan(found["a"]).tolist() == [False, True, True, True, True, False, False]
    assert found["b"] == ["x", "", "NA", "x", "x", "x", "x"]


def test_a_quoted_cell_may_hold_commas_quotes_and_lines(read):
    source = read('a,y\n"one, ""two""\nthree",u\nfour,v\n')
    assert columns(source)["a"] == ['one, "two"\nthree', "four"]


def test_another_delimiter_windows_lines_and_a_byte_order_mark(read):
    source = read("\ufeffa;y\r\n1;u\r\n2;v\r\n", delimiter=";")
    assert columns(source) == {"a": [1, 2]}


def test_categories_features_and_drop(read):
    text = "code,a,b,y\n007,1,2,u\n8,3,4,v\n"
    assert columns(read(text, categories=["code"], drop=["b"])) == {"code": ["007", "8"], "a": [1, 3]}
    assert columns(read(text, features=["b"])) == {"b": [2, 4]}


@pytest.mark.parametrize(
    ("cells", "kind", "labels"),
    [
        (["0", "1"] * 4, "class", ("0", "1")),
        (["10", "9", "9", "10"], "class", ("9", "10")),
        (["true", "false"] * 2, "class", ("false", "true")),
        (["1.5", "2.5"] * 3, "number", ()),
        ([str(number) for number in range(20)], "number", ()),
        (["b", "a", "b"], "class", ("a", "b")),
    ],
)
def test_what_the_target_is_follows_from_its_values(read, cells, kind, labels):
    source = read("a,y\n" + "".join(f"{number},{cell}\n" for number, cell in enumerate(cells)))
    assert (source.target.kind, source.target.labels) == (kind, labels)


def test_what_the_target_is_can_be_said(read):
    text = "a,y\n1,0\n2,1\n3,0\n4,1\n"
    assert read(text, target_kind="number").target.kind == "number"
    assert read("a,y\n1,1.5\n2,2.5\n", target_kind="class").target.labels == ("1.5", "2.5")
    with pytest.raises(ConfigError, match="said to be a number, but it holds texts"):
        read("a,y\n1,u\n2,v\n", target_kind="number")


def test_several_targets_are_labels_or_numbers(read):
    labels = read("a,u,v\n1,0,1\n2,1,1\n", target=["u", "v"])
    assert (labels.target.kind, labels.target.labels, labels.target.width) == ("multilabel", ("u", "v"), 2)
    assert labels.read_targets(np.arange(2)).tolist() == [[0, 1], [1, 1]]
    numbers = read("a,u,v\n1,0,1\n2,1,7\n", target=["u", "v"])
    assert (numbers.target.kind, numbers.target.width) == ("number", 2)
    with pytest.raises(DataError, match="'v' holds texts"):
        read("a,u,v\n1,0,x\n2,1,y\n", target=["u", "v"])


BAD_ROWS = 'a,b,y\n1,x,u\n\n2,"x\nx",v\nhuh,x,u\n4,x\n5,x,\n6,x,v,w\n7,x,u\n8,x,v\n'


def test_bad_rows_are_named_with_their_lines(read, tmp_path):
    assert sorted(bad(read(BAD_ROWS), tmp_path)) == [
        "rows.csv, line 6: 'a' is 'huh'; expected a number (args.categories takes it as a text)",
        "rows.csv, line 7: the row has 2 cells; expected 3",
        "rows.csv, line 8: the target is missing",
        "rows.csv, line 9: the row has 4 cells; expected 3",
    ]


def test_bad_rows_stop_or_are_skipped(read):
    rows = "".join(f"{number},x,{'uv'[number % 2]}\n" for number in range(40))
    config = {"source": "csv", "max_bad_fraction": 0.1}
    with pytest.raises(DataError, match=r"rows\.csv, line 6: 'a' is 'huh'.* and 3 more"):
        load_data(lambda: read(BAD_ROWS + rows), DataConfig(**config), 0)
    data = load_data(lambda: read(BAD_ROWS + rows), DataConfig(**config, on_bad_example="skip"), 0)
    assert len(data.report.bad) == 4 and len(data.train) + len(data.validation) + len(data.test) == 44
    with pytest.raises(DataError, match=r"more than data\.max_bad_fraction"):
        load_data(lambda: read(BAD_ROWS), DataConfig(**config, on_bad_example="skip"), 0)


def test_a_number_that_is_missing_stops_where_no_transform_fills_it(read):
    rows = "".join(f"{number},{'uv'[number % 2]}\n" for number in range(40))
    text = f"a,y\n{rows},u\n"
    steps = [{"kind": "standardise", "fields": ["a"]}]
    with pytest.raises(DataError, match="line 42: 'a' is missing, and no transform fills it in"):
        load_data(lambda: read(text), DataConfig(source="csv", transforms=steps), 0)
    assert load_data(lambda: read(text), DataConfig(source="csv"), 0).report.bad == ()


def test_a_file_for_each_split(tmp_path):
    paths = {}
    for name, count in (("train", 30), ("validation", 6), ("test", 8)):
        path = tmp_path / f"{name}.csv"
        path.write_text("a,y\n" + "".join(f"{name}{number},{'uv'[number % 2]}\n" for number in range(count)))
        paths[name] = str(path)
    data = load_data(SOURCES.bind("csv", {"path": paths, "target": "y"}), DataConfig(source="csv"), 0)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [30, 6, 8]
    assert data.test.source.where(int(data.test.index[0])).startswith(paths["test"])


def test_a_column_missing_in_one_file_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("age,y\n1,u\n")
    (tmp_path / "b.csv").write_text("agee,y\n1,u\n")
    paths = {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")}
    with pytest.raises(DataError, match=r"b\.csv has no column 'age', which .*a\.csv has\. Did you mean 'agee'"):
        SOURCES.bind("csv", {"path": paths, "target": "y"})()


def test_a_column_names_the_split(read):
    parts = ["train"] * 8 + ["validation"] * 3 + ["test"] * 4
    text = "a,part,y\n" + "".join(f"{number},{part},{'uv'[number % 2]}\n" for number, part in enumerate(parts))
    config = DataConfig(source="csv", split={"column": "part"})
    data = load_data(
        lambda: read(text + "1,x\n"), config.model_copy(update={"on_bad_example": "skip", "max_bad_fraction": 1}), 0
    )
    assert [len(part) for part in (data.train, data.validation, data.test)] == [8, 3, 4]
    assert [field.name for field in data.preprocessing.fields] == ["a"]


@pytest.mark.parametrize(
    ("text", "args", "message"),
    [
        ("", {}, r"rows\.csv is empty"),
        ("a,y\n", {}, "Every target is missing"),
        ("a,a,y\n1,2,u\n", {}, "two columns named 'a'"),
        ("a,yy\n1,u\n", {}, r"args\.target names 'y', but .* only the columns a, yy\. Did you mean 'yy'"),
        ("a,y\n1,u\n", {"drop": ["b"]}, r"args\.drop names 'b'"),
        ("a,y\n1,u\n", {"categories": ["b"]}, r"args\.categories names 'b'"),
        ("a,y\n1,u\n", {"features": ["A"]}, r"args\.features names 'A'"),
        ("y\nu\nv\n", {}, "no column left to learn from"),
        ("a,y\n1,u\n", {"delimiter": ",,"}, "expected one character"),
    ],
)
def test_what_cannot_be_a_table_is_told(read, text, args, message):
    with pytest.raises((ConfigError, DataError), match=message):
        read(text, **args)


def test_a_missing_file_and_one_that_is_no_utf_8(tmp_path):
    with pytest.raises(DataError, match=r"There is no file nowhere\.csv"):
        SOURCES.bind("csv", {"path": "nowhere.csv", "target": "y"})()
    path = tmp_path / "latin.csv"
    path.write_bytes("a,y\nKöln,u\n".encode("latin-1") * 3)
    with pytest.raises(DataError, match=r"latin\.csv"):
        SOURCES.bind("csv", {"path": str(path), "target": "y"})()


@given(
    st.lists(
        st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.text('ab,"\n é', min_size=1)),
        min_size=2,
        max_size=30,
    )
)
def test_what_python_writes_is_read_back(tmp_path_factory, rows):
    import csv

    path = tmp_path_factory.getbasetemp() / "hypothesis.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["a", "b", "y"])
        writer.writerows((number, f"t{text}", f"c{index % 2}") for index, (number, text) in enumerate(rows))
    source = SOURCES.bind("csv", {"path": str(path), "target": "y"})()
    found = columns(source)
    assert np.array_equal(np.float32(found["a"]), np.float32([number for number, _ in rows]))
    assert found["b"] == [f"t{text}" for _, text in rows]
    assert source.where(0) == f"{path}, line 2"


# --- Parquet ---


@pytest.fixture
def write(tmp_path):
    def write(table: dict, **args):
        pq.write_table(pa.table(table), tmp_path / "rows.parquet")
        return SOURCES.bind("parquet", {"path": str(tmp_path / "rows.parquet"), "target": "y", **args})()

    return write


def test_types_of_parquet(write):
    source = write(
        {
            "whole": pa.array([1, None, 3], pa.int16()),
            "float": pa.array([0.5, 1.5, None]),
            "flag": pa.array([True, False, None]),
            "text": pa.array(["a", None, "b"]).dictionary_encode(),
            "code": pa.array([7, 8, 9]),
            "y": pa.array([True, False, True]),
        },
        categories=["code"],
    )
    assert kinds(source) == {
        "whole": "number", "float": "number", "flag": "category", "text": "category", "code": "category",
    }  # fmt: skip
    found = columns(source)
    assert np.isnan(found["whole"]).tolist() == [False, True, False]
    assert (found["flag"], found["text"], found["code"]) == (["true", "false", ""], ["a", "", "b"], ["7", "8", "9"])
    assert source.target.labels == ("false", "true") and source.where(2).endswith("rows.parquet, row 3")


def test_whole_targets_stay_classes_where_one_is_missing(write, tmp_path):
    source = write({"a": [1.0] * 5, "y": pa.array([0, 1, None, 0, 1])})
    assert source.target.labels == ("0", "1")
    assert bad(source, tmp_path) == ["rows.parquet, row 3: the target is missing"]


def test_a_type_that_is_no_feature_is_refused(write):
    with pytest.raises(ConfigError, match=r"'when' of .* is timestamp.*args\.drop"):
        write({"when": pa.array([0], pa.timestamp("s")), "y": [1]})


def test_a_file_that_is_no_parquet_is_told(tmp_path):
    (tmp_path / "x.parquet").write_text("a,y\n")
    with pytest.raises(DataError, match=r"x\.parquet is no Parquet file"):
        SOURCES.bind("parquet", {"path": str(tmp_path / "x.parquet"), "target": "y"})()


# --- growing columns ---


@pytest.mark.parametrize("limit", [0, 10, 1 << 20])
def test_a_column_is_the_same_in_memory_and_in_a_file(monkeypatch, limit):
    monkeypatch.setattr(growing, "MEMORY_BYTES", limit)
    column = Growing("float32")
    for start in range(0, 50, 7):
        column.append(np.arange(start, min(start + 7, 50), dtype=np.float64))
    array = column.finish()
    assert isinstance(array, np.memmap) == (limit < 200) and array.dtype == np.float32
    assert array.tolist() == list(range(50)) and array[np.array([3, 1])].tolist() == [3, 1]


def test_texts_are_kept_once(monkeypatch):
    column = Texts()
    column.append(np.array([0, 1, 0]), ["a", "b"])
    column.append(np.array([0, 1]), ["b", "c"])
    texts = column.finish()
    assert texts[:].tolist() == ["a", "b", "a", "b", "c"] and texts.texts.tolist() == ["a", "b", "c"]
    assert texts[np.array([4, 0])].tolist() == ["c", "a"] and len(texts) == 5


def test_a_table_larger_than_its_memory_is_the_same(read, monkeypatch):
    text = "a,b,y\n" + "".join(f"{number},k{number % 3},{'uv'[number % 2]}\n" for number in range(500))
    before = scan_source(read(text)).digest
    monkeypatch.setattr(growing, "MEMORY_BYTES", 100)
    assert scan_source(read(text)).digest == before
