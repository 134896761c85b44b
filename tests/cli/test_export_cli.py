import pytest
from click.testing import CliRunner, Result

from bmp.cli import _Command
from bmp.cli.export import export_command

GROUP = _Command("bmp", commands=[export_command])


@pytest.fixture
def export(quick_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BMP_REGISTRY", str(quick_run.version.path.parent.parent))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(GROUP, ["export", *arguments])

    return run


@pytest.mark.parametrize("model", ["digits", "digits/1"])
def test_says_what_was_written(export, quick_run, tmp_path, model):
    done = export(model, "m.tflite", "--format", "litert")
    size = (tmp_path / "m.tflite").stat().st_size
    assert (done.exit_code, done.stdout) == (0, f"digits/1 as litert: m.tflite, {size:,} bytes, as published\n")


def test_says_how_far_off_what_it_had_to_write_is(export):
    done = export("digits", "m.keras", "--format", "keras")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(" bytes; differs from model.h5 by 0 at the most, on 16 held-out examples\n")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ("digit", "m.h5", "--format", "h5"),
            1,
            "No model is named 'digit'. Published: digits. Did you mean 'digits'?",
        ),
        (("digits/2", "m.h5", "--format", "h5"), 1, "Model 'digits' has no version 2; it has 1."),
        (("digits@prod", "m.h5", "--format", "h5"), 1, "Model 'digits' has no alias 'prod'. Aliases: none."),
        (("digits", "m.h5", "--format", "kera"), 2, "Did you mean 'keras'?"),
        (("digits", "m.h5"), 2, "Missing option '--format'"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(export, tmp_path, arguments, code, sentence):
    done = export(*arguments)
    assert done.exit_code == code
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())
