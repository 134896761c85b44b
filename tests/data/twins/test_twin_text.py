from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transform_cases import to_column
from twin_tools import Twin, assert_equal

from bmp.transforms import Field, Preprocessing, build_steps

TRAINING = ["The cat, the dog & the naïve ÉCOLE.", "東京 tokyo\x00\x1f\x7f! <pad> <unk>", "\ufeffİıŞ\u2028\u00a0 a_b-c"]


@cache
def build(tokenizer, keep):
    size = {"bpe": 300}.get(tokenizer)
    fields = (Field("text", "text"),)
    steps = [{"kind": "tokenize", "field": "text", "tokenizer": tokenizer, "length": 15, "keep": keep}]
    if size:
        steps[0]["vocabulary_size"] = size
    fitted = Preprocessing(fields, build_steps(steps, fields)).fit(lambda: iter([{"text": to_column(TRAINING)}]))
    return fitted, Twin(fitted)


TEXTS = st.lists(
    st.one_of(st.text(), st.text(alphabet="TheCat,dog. \t\x00\x1c\x85\u00a0É東'<pad>"), st.sampled_from(TRAINING)),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("keep", ["start", "end"])
@pytest.mark.parametrize("tokenizer", ["characters", "bytes", "words", "bpe"])
@settings(max_examples=50, deadline=None)
@given(texts=TEXTS)
@example(texts=["\ufeffa", "\uffff\ufffe\ufdd0", "\U0010ffff", "\x00", ""])
@example(texts=["a\rb\x0bc\x0cd\x1ce\x85f\u2003g\u3000h"])
@example(texts=["K\u212a İI\u0130ß ẞ"])
def test_tokens_agree_on_any_unicode(tokenizer, keep, texts):
    fitted, twin = build(tokenizer, keep)
    columns = {"text": to_column(texts)}
    assert_equal(fitted.run(columns), twin.run(columns), 0)


@pytest.mark.parametrize("kind", ["one_hot", "vocabulary"])
@settings(max_examples=10, deadline=None)  # each is a graph of its own
@given(known=st.lists(st.text(), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_lookups_agree_on_any_unicode(kind, known, seed):
    if not any(known):
        known = [*known, "a"]
    fields = (Field("word", "category"),)
    fitted = Preprocessing(fields, build_steps([{"kind": kind, "fields": ["word"]}], fields)).fit(
        lambda: iter([{"word": to_column(known)}])
    )
    random = np.random.default_rng(seed)
    columns = {"word": to_column([*random.choice(to_column(known), 5), "", "other", known[0] + "\x00"])}
    assert_equal(fitted.run(columns), Twin(fitted).run(columns), 0)
