import onnx
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.artifact.onnx import OnnxRunner, write_onnx
from bmp.errors import ArtifactError, ExportError
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (4,)),), (TensorSpec("y", "float32", (4,)),))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(MODELS["mlp"](SIGNATURE, hidden=[8]), SIGNATURE, path)
    return path


def test_the_file_is_valid_and_names_types_and_shapes_are_those_of_the_signature(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx.ml"}  # nothing of TensorFlow's own
    for tensors, name in ((model.graph.input, "x"), (model.graph.output, "y")):
        (tensor,) = tensors
        kind = tensor.type.tensor_type
        assert (tensor.name, kind.elem_type) == (name, onnx.TensorProto.FLOAT)
        assert kind.shape.dim[0].dim_value == 0 and kind.shape.dim[1].dim_value == 4  # the batch is free


def test_an_operation_without_an_onnx_form_is_named_and_nothing_written(tmp_path, caplog):
    class Gamma(keras.Model):
        def call(self, x, training=False):
            return tf.math.lgamma(x)

    with pytest.raises(ExportError, match="ONNX cannot hold the model 'gamma': the operation Lgamma has no ONNX form"):
        write_onnx(Gamma(), SIGNATURE, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir()) and not caplog.records


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08"])
def test_what_is_no_model_is_refused(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx is no ONNX model that can be run"):
        OnnxRunner(tmp_path / "model.onnx", SIGNATURE)


def test_a_model_of_another_signature_is_refused(path):
    other = Signature((TensorSpec("image", "float32", (4,)),), SIGNATURE.outputs)
    with pytest.raises(ArtifactError, match="other inputs or outputs than the signature"):
        OnnxRunner(path, other)
