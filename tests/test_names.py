import shlex
from pathlib import PurePosixPath
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import ConfigError
from bmp.names import NAME_PATTERN, check_alias, check_model_name, is_name

GOOD = ["digits", "a", "0", "mnist-v2", "a.b_c-d", "a..b", "x" * 64]
BAD = ["", "A", "A b", "a b", ".a", "-a", "_a", "..", "a/b", "../a", "a\n", "\na", "é", "²", "a\x00", "x" * 65, "a%41"]


@pytest.mark.parametrize("name", GOOD)
def test_a_model_name_comes_back_as_it_is(name):
    assert is_name(name)
    assert check_model_name(name) == name


@pytest.mark.parametrize("check", [check_model_name, check_alias])
@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_refused_with_the_rule(check, name):
    assert not is_name(name)
    with pytest.raises(ConfigError, match="lower-case letters, digits"):
        check(name)


@pytest.mark.parametrize("alias", ["production", "canary-2", "2nd"])
def test_an_alias_comes_back_as_it_is(alias):
    assert check_alias(alias) == alias


@pytest.mark.parametrize("alias", ["1", "007"])
def test_an_alias_is_never_mistaken_for_a_version(alias):
    with pytest.raises(ConfigError, match="not digits alone"):
        check_alias(alias)


def test_a_long_name_is_cut_short_in_the_message():
    with pytest.raises(ConfigError) as caught:
        check_model_name("A" * 100_000)
    assert len(str(caught.value)) < 300


@given(st.from_regex(NAME_PATTERN, fullmatch=True))
def test_a_name_is_safe_in_a_path_a_url_and_a_shell(name):
    assert is_name(name)
    assert PurePosixPath("root", name).parts == ("root", name)
    assert quote(name, safe="") == name
    assert shlex.quote(name) == name


@given(st.text())
def test_any_text_is_a_name_or_refused(text):
    if is_name(text):
        assert check_model_name(text) == text
    else:
        with pytest.raises(ConfigError):
            check_model_name(text)
