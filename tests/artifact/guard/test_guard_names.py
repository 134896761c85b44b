import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.artifact.guard import Limits, check_member_names
from bmp.errors import UnsafeError


def test_plain_names_pass():
    check_member_names(["model.h5", "bmp/manifest.json", "variables/", "variables/variables.index", "a b/ü.txt"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "has 0 characters"),
        ("a" * 513, "has 513 characters"),
        ("/etc/passwd", "absolute"),
        ("C:/windows", "absolute"),
        ("C:x", "absolute"),
        ("file://x", "absolute"),
        ("..\\x", "absolute"),
        ("..", "leads out"),
        ("a/../../b", "leads out"),
        ("a/./b", "empty"),
        ("a//b", "empty"),
        ("a/b//", "empty"),
        ("/", "absolute"),
        ("a/ b", "shorten"),
        ("a./b", "shorten"),
        ("a\0b", "not printed"),
        ("a\nb", "not printed"),
        ("a\u202eb", "not printed"),
        ("a\u200bb", "not printed"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name, reason):
    with pytest.raises(UnsafeError, match=reason) as caught:
        check_member_names(["fine", name])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a"],
        ["Model.h5", "model.h5"],
        ["straße", "STRASSE"],
        ["caf\u00e9", "cafe\u0301"],
        ["\ufb01le", "file"],
        ["a/", "A"],
    ],
)
def test_two_names_of_one_file_are_refused(names):
    with pytest.raises(UnsafeError, match="would be the same file"):
        check_member_names(names)


@pytest.mark.parametrize("names", [["a", "a/b"], ["a/b/c", "a/b"], ["A", "a/b/"]])
def test_a_file_that_is_a_folder_is_refused(names):
    with pytest.raises(UnsafeError, match="a file and a folder at once"):
        check_member_names(names)


def test_too_many_are_refused_before_all_are_seen():
    endless = (str(number) for number in iter(range(10**12)))
    with pytest.raises(UnsafeError, match="more than 1,000 members"):
        check_member_names(endless, Limits())


@given(st.text(max_size=12))
def test_what_passes_stays_below_its_folder(name):
    try:
        check_member_names([name])
    except UnsafeError:
        return
    parts = name.removesuffix("/").split("/")
    assert "\\" not in name and "\0" not in name
    assert all(parts) and not {".", ".."} & set(parts)
