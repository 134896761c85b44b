import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from record_sets import as_objects, make_mixed, make_tensors, same

from bmp.data.records.example import RecordError, decode, describe_target, encode
from bmp.data.records.layout import plan_layout
from bmp.data.source import Target
from bmp.errors import DataError
from bmp.transforms import Field

DTYPES = ["uint8", "int8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool", "complex64"]


@st.composite
def batches(draw):
    """A batch of up to five examples with features of any kind."""
    count = draw(st.integers(1, 5))
    names = draw(
        st.lists(st.text(min_size=1, max_size=5).filter(lambda n: n.isprintable()), min_size=1, max_size=4, unique=True)
    )
    fields, columns = [], {}
    for name in names:
        kind = draw(st.sampled_from(["number", "category", "text", "image", "audio", "tensor"]))
        field = Field(name, kind)
        if kind == "tensor":
            shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
            field = Field(name, kind, draw(st.sampled_from(DTYPES)), shape)
        fields.append(field)
        if kind in ("number", "tensor"):
            columns[name] = draw(hnp.arrays(field.dtype, (count, *field.shape)))
        else:
            texts = st.text(max_size=20) if kind in ("category", "text") else st.binary(max_size=20)
            columns[name] = as_objects(draw(st.lists(texts, min_size=count, max_size=count)))
    return tuple(fields), columns


@settings(deadline=None)
@given(batches())
def test_a_batch_comes_back_to_the_bit(batch):
    fields, columns = batch
    examples = encode(columns, fields)
    assert same(decode(examples, fields), columns)
    layout = plan_layout(fields)
    assert (layout is None) == any(field.kind not in ("number", "tensor") for field in fields)
    if layout is not None:
        rows = np.frombuffer(b"".join(examples), np.uint8).reshape(len(examples), layout.size)
        assert same(layout.cut(rows, fields), columns)


@settings(deadline=None)
@given(batches())
def test_the_bytes_are_those_of_tf_train_example(batch):
    import tensorflow as tf

    fields, columns = batch
    for example, data in enumerate(encode(columns, fields)):
        theirs = tf.train.Example.FromString(data)
        assert set(theirs.features.feature) == {field.name for field in fields}
        for field in fields:
            (value,) = theirs.features.feature[field.name].bytes_list.value
            one = columns[field.name][example]
            assert value == (one.encode() if isinstance(one, str) else one if isinstance(one, bytes) else one.tobytes())
        assert theirs.SerializeToString(deterministic=True) == data


@settings(deadline=None)
@given(st.data())
def test_a_byte_outside_the_values_makes_an_example_foreign(data):
    source = make_tensors(3)
    layout = plan_layout(source.fields)
    fixed = [at for stretch in layout.fixed for at in range(stretch.start, stretch.stop)]
    assert len(fixed) + 12 == layout.size
    rows = np.tile(layout.template, (3, 1))
    rows[1, data.draw(st.sampled_from(fixed))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RecordError) as caught:
        layout.cut(rows, source.fields)
    assert caught.value.position == 1


def test_an_example_of_other_features_is_refused():
    source = make_mixed(3)
    examples = encode(source.read(np.arange(3)), source.fields)
    with pytest.raises(RecordError, match="'other' has 0 values where one was expected"):
        decode(examples, (Field("other", "text"),))
    with pytest.raises(RecordError, match=r"'review' has \d+ bytes where 4 were expected"):
        decode(examples, (Field("review", "number"),))
    with pytest.raises(RecordError, match=r"no tf\.train\.Example") as caught:
        decode([examples[0], b"\xff\xff"], source.fields)
    assert caught.value.position == 1
    with pytest.raises(RecordError, match="not UTF-8"):
        decode(examples, (Field("photo", "text"),))


def test_a_source_that_gives_something_else_than_it_declares_is_told():
    field = Field("x", "tensor", "uint8", (2,))
    with pytest.raises(DataError, match=r"gave 'x' as int64 \(2,\), but declares it as uint8 \(2,\)"):
        encode({"x": np.zeros((1, 2), np.int64)}, (field,))
    with pytest.raises(DataError, match="UTF-8"):
        encode({"x": as_objects(["\ud800"])}, (Field("x", "text"),))


def test_the_target_has_a_name_of_its_own():
    fields = (Field("target", "text"), Field("target_", "text"))
    assert describe_target(Target("tokens", ("a", "b"), 7), fields) == Field("target__", "tensor", "int32", (7,))
    assert describe_target(Target("multilabel", ("a", "b")), ()) == Field("target", "tensor", "float32", (2,))


def test_columns_can_be_written_to():
    source = make_tensors(1)
    columns = plan_layout(source.fields).cut(
        np.frombuffer(encode(source.read(np.arange(1)), source.fields)[0], np.uint8)[None], source.fields
    )
    columns["image"][0] = 0
    columns = decode(encode(source.read(np.arange(1)), source.fields), source.fields)
    columns["image"][0] = 0
