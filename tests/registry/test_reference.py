import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import ConfigError
from bmp.names import is_name
from bmp.registry.reference import Reference, read_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("digits", Reference("digits")),
        ("digits@canary", Reference("digits", alias="canary")),
        ("digits/12", Reference("digits", number=12)),
    ],
)
def test_three_forms(text, reference):
    assert read_reference(text) == reference


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no model name"),
        ("Digits", "no model name"),
        ("../digits", "no model name"),
        ("/1", "no model name"),
        ("digits@", "ends too early"),
        ("digits/", "ends too early"),
        ("digits/0", "no version of 'digits'"),
        ("digits/01", "no version of 'digits'"),
        ("digits/-1", "no version of 'digits'"),
        ("digits/1/2", "no version of 'digits'"),
        ("digits/1@canary", "no version of 'digits'"),
        ("digits/٣", "no version of 'digits'"),
        ("digits/canary", "Did you mean 'digits@canary'?"),
        ("digits@3", "is no alias"),
        ("digits@a/b", "is no alias"),
        ("digits/" + "9" * 19, "no version"),
    ],
)
def test_anything_else_is_refused(text, says):
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        read_reference(text)


@given(st.text())
def test_a_text_is_a_reference_or_one_sentence(text):
    try:
        reference = read_reference(text)
    except ConfigError as error:
        assert "\n" not in error.message
    else:
        assert is_name(reference.name) and (reference.alias is None or is_name(reference.alias))
