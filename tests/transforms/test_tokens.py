import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import to_column

from bmp.errors import ConfigError, DataError
from bmp.transforms import Field, build_steps
from bmp.transforms import tokens as tokens_module
from bmp.transforms.text import Tokenize

TRAINING = ["The cat sat.", "the naïve cat's 東京!", "\n\n  <pad>\x00"]


def fit(tokenizer, texts=TRAINING, **settings):
    if tokenizer == "bpe":
        settings.setdefault("vocabulary_size", 300)
    step = Tokenize(field="text", tokenizer=tokenizer, length=8, **settings)
    return step.fit([{"text": to_column(texts)}])


def run(step, *texts):
    return step.run({"text": to_column(texts)})["text"].tolist()


def test_words_are_cut_by_the_rule_and_ranked_by_count():
    step = fit("words")
    assert step.vocabulary[:2] == ("cat", "the")
    assert set(step.vocabulary) == {"cat", "the", "!", "'", ".", "<", ">", "naïve", "pad", "s", "sat", "東京"}
    assert step.decode(step.encode("THE CAT'S naïve,東京")) == "the cat ' s naïve \ufffd 東京"
    assert step.labels[:3] == ("<pad>", "<unk>", "cat")


def test_characters_bytes_and_their_padding():
    step = fit("characters", ["abca"])
    assert step.vocabulary == ("a", "b", "c")
    assert run(step, "cab?", "", "abcabcabcabc") == [
        [4, 2, 3, 1, 0, 0, 0, 0],
        [0] * 8,
        [2, 3, 4, 2, 3, 4, 2, 3],
    ]
    assert run(fit("bytes", keep="end"), "0123456789", "é") == [[ord(c) + 2 for c in "23456789"], [197, 171, *[0] * 6]]
    assert fit("characters", ["abca"], keep="end").length == 8


def test_a_vocabulary_is_cut_to_its_size_special_tokens_included():
    step = fit("words", vocabulary_size=4)
    assert len(step.labels) == 4
    assert step.plan({"text": Field("text", "text")})["text"].vocabulary == 4


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
@settings(max_examples=50, deadline=None)
@given(text=st.text())
def test_bytes_and_bpe_bring_any_text_back(tokenizer, text):
    step = STEPS[tokenizer]
    tokens = step.encode(text)
    assert tokens.dtype == np.int32
    assert not np.isin(tokens, [0, 1]).any()
    assert step.decode(tokens) == text


STEPS = {tokenizer: fit(tokenizer) for tokenizer in ("bytes", "bpe", "characters", "words")}


@pytest.mark.parametrize("tokenizer", STEPS)
def test_every_token_has_a_text_of_its_own(tokenizer):
    labels = STEPS[tokenizer].labels
    assert len(set(labels)) == len(labels)
    assert labels[:2] == ("<pad>", "<unk>")


@pytest.mark.parametrize("tokenizer", STEPS)
def test_long_texts_are_encoded_piece_by_piece_with_the_same_result(tokenizer, monkeypatch):
    random = np.random.default_rng(0)
    text = "".join(random.choice(["cat", "\n", " ", "\n\n", "sat.", "é", "\t", "\n "], 2000))
    step = STEPS[tokenizer]
    whole = step.encode(text)
    monkeypatch.setattr(tokens_module, "_CHUNK_CHARACTERS", 37)
    np.testing.assert_array_equal(step.encode(text), whole)
    assert fit(tokenizer, [text]).labels == fit(tokenizer, [text]).labels


def test_fitting_piece_by_piece_gives_the_same_characters(monkeypatch):
    text = "".join(np.random.default_rng(0).choice(list("abcé東\n"), 500))
    whole = fit("characters", [text]).vocabulary
    monkeypatch.setattr(tokens_module, "_CHUNK_CHARACTERS", 7)
    assert fit("characters", [text]).vocabulary == whole


@pytest.mark.parametrize("tokenizer", STEPS)
def test_half_a_surrogate_pair_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"'text' of example 1 .*half of a surrogate pair at position 1"):
        STEPS[tokenizer].run({"text": to_column(["fine", "a\ud800b"])})


def test_names_of_special_tokens_in_a_text_are_text():
    assert not np.isin(STEPS["bpe"].encode("<pad><unk>"), [0, 1]).any()


def test_decoding_leaves_padding_out():
    step = STEPS["characters"]
    assert step.decode([*step.encode("cat"), 0, 0, 1]) == "cat\ufffd"


@pytest.mark.parametrize("tokenizer", ["characters", "words"])
def test_nothing_to_fit_to_is_refused(tokenizer):
    with pytest.raises(DataError, match="holds no text"):
        fit(tokenizer, ["", ""])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer": "bytes", "vocabulary_size": 300}, "always 258"),
        ({"tokenizer": "bpe", "vocabulary_size": 100}, "258 or more"),
        ({"tokenizer": "words", "vocabulary_size": 2}, "must be more than 2"),
        ({"tokenizer": "bytes", "vocabulary": ["a"]}, "not for the tokenizer bytes"),
        ({"tokenizer": "words", "vocabulary": []}, "at least one"),
        ({"tokenizer": "words", "vocabulary": ["a", "a"]}, "different"),
        ({"tokenizer": "characters", "vocabulary": ["ab"]}, "single characters"),
        ({"tokenizer": "words", "bpe": "{}"}, "bpe is not for"),
        ({"tokenizer": "bpe", "vocabulary_size": 300, "bpe": "{}"}, "no description of a tokenizer"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_steps([{"kind": "tokenize", "field": "text", "length": 5, **settings}], (Field("text", "text"),))
