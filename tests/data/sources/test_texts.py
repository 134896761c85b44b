import json

import numpy as np
import pytest

from bmp.config import DataConfig
from bmp.data import SOURCES, load_data
from bmp.data.scan import scan_source
from bmp.data.sources import text as text_module
from bmp.errors import ConfigError, DataError

WORDS = ["apple", "pear", "plum", "fig", "lime"]
POEM = "\n".join(" ".join(WORDS[(line + place) % 5] for place in range(6)) for line in range(120)) + "\n"


@pytest.fixture
def read(tmp_path):
    def read(text=POEM, **arguments):
        (tmp_path / "poem.txt").write_text(text, encoding="utf-8")
        return SOURCES.bind("text", {"path": str(tmp_path / "poem.txt"), "context": 16, **arguments})()

    return read


def rows(source, name="text"):
    return source.read(np.arange(len(source)))[name]


# --- running text ---


@pytest.mark.parametrize(
    "arguments", [{}, {"tokenizer": "bytes"}, {"tokenizer": "words"}, {"tokenizer": "bpe", "vocabulary_size": 270}]
)
def test_targets_are_the_inputs_one_token_later(read, arguments):
    source = read(**arguments)
    inputs, targets = rows(source), source.read_targets(np.arange(len(source)))
    assert (inputs[:, 1:] == targets[:, :-1]).all() and inputs.dtype == targets.dtype == np.int32
    train = source.given["train"]
    assert (inputs[train[1:]] == targets[train[:-1]]).all()  # the next window begins one token later


def test_training_windows_start_anywhere_and_the_others_do_not_overlap(read):
    source = read()
    (step,) = source.serving_steps
    texts = {name: [step.decode(row) for row in rows(source)[index]] for name, index in source.given.items()}
    whole = "".join(text[0] for text in texts["train"][:-1]) + texts["train"][-1]
    for name in ("validation", "test"):
        whole_part = "".join(texts[name])
        assert len(whole_part) == 16 * len(texts[name]) and whole_part in POEM
    assert POEM.startswith(whole)


def test_no_window_crosses_from_one_part_into_another(read):
    source = read()
    (step,) = source.serving_steps
    last = source.given["train"][-1]
    end = "".join(step.decode(row) for row in source.read_targets(np.array([last])))
    train = POEM[: POEM.find(end, int(len(POEM) * 0.85)) + len(end)]
    first = step.decode(rows(source)[source.given["validation"][0]])
    assert POEM[len(train) :].startswith(first) and train.endswith("\n")


def test_the_tokenizer_knows_the_training_part_alone(read):
    source = read(POEM + "Z" * 400)
    assert "Z" not in source.target.labels
    assert (rows(source)[source.given["test"]] == 1).any()


def test_a_person_sends_text_and_gets_the_windows_of_training(read):
    data = load_data(lambda: read(), DataConfig(source="text"), 0)
    window = data.preprocessing.steps[0].decode(data.train.read(slice(0, 1)).inputs["text"][0])
    sent = data.preprocessing.run({"text": np.array(["x" * 50 + window], object)})
    assert (sent["text"] == data.train.read(slice(0, 1)).inputs["text"]).all()
    assert data.signature.objective == "next_token"


def test_windows_are_known_without_being_read(read):
    source, other = read(), read(POEM.replace("fig", "nut"))
    hashes = source.read_hashes(np.arange(len(source)))
    assert len({row.tobytes() for row in hashes}) == len(source)
    assert scan_source(source).digest == scan_source(read()).digest != scan_source(other).digest


def test_a_folder_is_put_together_in_the_order_of_names(tmp_path):
    (tmp_path / "b.txt").write_text(POEM[2000:])
    (tmp_path / "a.txt").write_text(POEM[:2000])
    (tmp_path / "c.md").write_text("not me")
    source = SOURCES.bind("text", {"path": str(tmp_path), "context": 16, "tokenizer": "bytes"})()
    assert bytes((rows(source)[0] - 2).tolist()).decode() == POEM[:16]


@pytest.mark.parametrize("size", [1, 50])
def test_a_long_text_is_encoded_in_pieces(read, monkeypatch, size):
    whole = scan_source(read(tokenizer="words")).digest
    monkeypatch.setattr(text_module, "_PIECE_CHARACTERS", size)
    assert scan_source(read(tokenizer="words")).digest == whole


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        (POEM, {"context": 200}, "The test part of .* has 150 tokens; a window takes 201"),
        (POEM, {"validation": 0.5, "test": 0.5}, "leave no training part"),
        (POEM, {"tokenizer": "bpe"}, r"args\.vocabulary_size"),
        (POEM, {"tokenizer": "bytes", "vocabulary_size": 300}, r"args\.vocabulary_size"),
        ("", {}, "no text"),
    ],
)
def test_texts_that_will_not_do_are_told(read, text, arguments, message):
    with pytest.raises((ConfigError, DataError), match=message):
        read(text, **arguments)


def test_a_missing_text_and_one_that_is_no_utf_8(tmp_path):
    with pytest.raises(DataError, match="There is no text at nowhere"):
        SOURCES.bind("text", {"path": "nowhere", "context": 4})()
    (tmp_path / "x.txt").write_bytes(b"abc\xff")
    with pytest.raises(DataError, match=r"x\.txt is no text in UTF-8: byte 3 is 0xff"):
        SOURCES.bind("text", {"path": str(tmp_path / "x.txt"), "context": 4})()


# --- texts with labels ---


@pytest.fixture
def table(tmp_path):
    def table(data: str | bytes, name="rows.csv", **arguments):
        (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
        return SOURCES.bind("text_table", {"path": str(tmp_path / name), **arguments})()

    return table


def bad(source, tmp_path):
    return [str(found).replace(f"{tmp_path}/", "") for found in scan_source(source).bad]


CSV = 'id,text,label\n1,"one, ""two""\nthree",a\n\n2,vier é,b\n'


@pytest.mark.parametrize("data", [CSV, "\ufeff" + CSV, CSV.replace("\n", "\r\n")])
def test_csv(table, data):
    source = table(data)
    assert [text.replace("\r\n", "\n") for text in rows(source)] == ['one, "two"\nthree', "vier é"]
    assert source.target.labels == ("a", "b")
    assert [source.where(number).rpartition("/")[2] for number in range(2)] == ["rows.csv, line 2", "rows.csv, line 5"]


def test_tabs_and_other_names(table):
    source = table("review\tstars\ngood\t5\nbad\t1\nso so\t5\nworse\t1\n", "rows.tsv", text="review", label="stars")
    assert rows(source, "review").tolist() == ["good", "bad", "so so", "worse"] and source.target.labels == ("1", "5")


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        (["a", "b"], "class", ("a", "b")),
        ([1, 0], "class", ("0", "1")),
        (["10", "9"], "class", ("9", "10")),
        ([True, False], "class", ("false", "true")),
        ([0.5, 1.5], "number", ()),
        ([1, "x"], "class", ("1", "x")),
    ],
)
def test_labels_of_json(table, labels, kind, names):
    lines = [json.dumps({"text": f"t{number}", "label": labels[number % 2]}) for number in range(8)]
    source = table("\n".join(lines), "rows.jsonl")
    assert (source.target.kind, source.target.labels) == (kind, names)


def test_bad_rows_of_csv_are_named(table, tmp_path):
    data = b"text,label\ngood,a\nshort\nlong,a,b\n,a\nno label,\n\xff\xfe,a\nfine,b\n"
    assert bad(table(data), tmp_path) == [
        "rows.csv, line 3: the row has 1 cells; expected 2",
        "rows.csv, line 4: the row has 3 cells; expected 2",
        "rows.csv, line 5: 'text' is missing",
        "rows.csv, line 6: 'label' is missing",
        "rows.csv, line 7: the row is not in UTF-8",
    ]


def test_bad_rows_of_json_are_named(table, tmp_path):
    lines = [
        '{"text": "x", "label": "a"}',
        '{"text": "y"',
        "[1]",
        '{"text": 3, "label": "a"}',
        '{"text": "z", "label": []}',
        '{"label": "b"}',
        '{"text": " ", "label": "b"}',
    ]
    found = bad(table("\n".join(lines), "rows.jsonl"), tmp_path)
    assert [line.split(": ")[0] for line in found] == [f"rows.jsonl, line {line}" for line in range(2, 8)]
    assert "no JSON" in found[0] and "no JSON object" in found[1] and "'text' is 3" in found[2]
    assert "'label' is []" in found[3] and "'text' is missing" in found[4] and "the text is empty" in found[5]


def test_bad_rows_stop_or_are_skipped(table):
    data = "text,label\nshort\n" + "".join(f"text {number},{'ab'[number % 2]}\n" for number in range(40))
    config = {
        "source": "x",
        "transforms": [{"kind": "tokenize", "field": "text", "length": 4}],
        "max_bad_fraction": 0.1,
    }
    with pytest.raises(DataError, match=r"rows\.csv, line 2: the row has 1 cells"):
        load_data(lambda: table(data), DataConfig(**config), 0)
    assert len(load_data(lambda: table(data), DataConfig(**config, on_bad_example="skip"), 0).report.bad) == 1


def test_a_column_beside_the_text_names_the_split(table):
    parts = ["train"] * 8 + ["validation"] * 3 + ["test"] * 4
    data = "text,label,part\n" + "".join(f"t{number},{'ab'[number % 2]},{part}\n" for number, part in enumerate(parts))
    config = {
        "source": "x",
        "transforms": [{"kind": "tokenize", "field": "text", "length": 4}],
        "on_bad_example": "skip",
        "max_bad_fraction": 0.1,
    }
    split = load_data(lambda: table(data + "short\n"), DataConfig(**config, split={"column": "part"}), 0)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [8, 3, 4]
    with pytest.raises(ConfigError, match=r"no column 'parts'.*Did you mean 'part'"):
        load_data(lambda: table(data), DataConfig(**config, split={"column": "parts"}), 0)


@pytest.mark.parametrize(
    ("data", "name", "arguments", "message"),
    [
        ("", "rows.csv", {}, "is empty"),
        ("text,label\n", "rows.csv", {}, "None of the 0 rows can be used"),
        ("text,labels\nx,a\n", "rows.csv", {}, "no column 'label'.*Did you mean 'labels'"),
        ("x", "rows.xml", {}, r"ends in '\.xml'; expected"),
        ("nothing\n", "rows.jsonl", {}, r"None of the 1 rows can be used\. .*line 1: the line is no JSON"),
        (CSV, "rows.csv", {"delimiter": "--"}, "expected one character"),
    ],
)
def test_tables_that_will_not_do_are_told(table, data, name, arguments, message):
    with pytest.raises((ConfigError, DataError), match=message):
        table(data, name, **arguments)


def test_a_file_that_changes_while_it_is_used_is_told(table, tmp_path):
    source = table(CSV)
    (tmp_path / "rows.csv").write_text("id,text,label\n1,2\n" * 9)
    with pytest.raises(DataError, match="has changed since it was opened"):
        source.read(np.array([1]))
