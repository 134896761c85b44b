"""`bmp import`, as a person types it; the import itself is tested by its own room."""

import pickle

import pytest
from click.testing import CliRunner

from bmp.cli import main

WRONG = [
    (["nothere.h5", "--name", "net"], 1, "There is no file or directory nothere.h5. Did you mean 'there.h5'?"),
    (["there.h5", "--name", "Net"], 2, "'Net' is no model name"),
    (["there.h5", "--name", "net"], 1, "there.h5 is named like HDF5, but its content is not"),
    (["net.pkl", "--name", "net"], 1, "net.pkl is a pickle"),
    (["there.h5", "--name", "net", "--objective", "multiclas"], 2, "Did you mean 'multiclass'?"),
    (["there.h5", "--name", "net", "--shape", "28,a"], 2, "--shape is '28,a'; expected whole numbers such as 28,28"),
    (["there.h5", "--name", "net", "--set", "pooling"], 2, "--set is 'pooling'; expected KEY=VALUE"),
    (["there.h5", "--name", "net", "--labels", "a,a"], 2, "The labels are a, a; expected a name for each class"),
    (["there.h5", "--name", "net", "--samples", "."], 1, "is a directory; expected an .npz or .npy file"),
]


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG, ids=[" ".join(wrong[0]) for wrong in WRONG])
def test_what_is_wrong_is_said_in_a_sentence(arguments, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.h5").write_text("no model")
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({}))
    done = CliRunner().invoke(main, ["import", *arguments])
    assert done.exit_code == code
    assert said in done.output and done.output.startswith("bmp: ") and done.output.count("\n") == 1
    assert "bmp-import-" not in done.output and "Traceback" not in done.output


def test_the_name_is_asked_for():
    done = CliRunner().invoke(main, ["import", "net.h5"])
    assert done.exit_code == 2 and "Missing option '--name'" in done.output
