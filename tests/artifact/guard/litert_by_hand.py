"""A LiteRT model put together table by table, without TensorFlow, to be spoilt."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (4,)),), (TensorSpec("y", "float32", (3,)),))


def make_tensor(shape, buffer=0, name=b"t", kind=schema.TensorType.FLOAT32):
    tensor = schema.TensorT()
    tensor.shape, tensor.type, tensor.buffer, tensor.name = list(shape), kind, buffer, name
    return tensor


def make_buffer(data=b""):
    buffer = schema.BufferT()
    buffer.data = list(data)
    return buffer


def make_operator(code, inputs, outputs, options=None, options_type=0):
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptions, operator.builtinOptionsType = options, options_type
    return operator


def make_code(number, custom=None):
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version, code.customCode = number, min(number, 127), 1, custom
    return code


def make_graph(tensors, operators, inputs, outputs):
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs, graph.name = tensors, operators, inputs, outputs, b"g"
    return graph


def make_signature():
    signature = schema.SignatureDefT()
    for place, name, index in (("inputs", b"x", 0), ("outputs", b"y", 3)):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        setattr(signature, place, [entry])
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    return signature


def make_model():
    """A dense layer, `(B, 4)` to `(B, 3)`, with a note on which LiteRT it needs."""
    weights, bias = np.arange(12, dtype="<f4"), np.ones(3, "<f4")
    model, options = schema.ModelT(), schema.FullyConnectedOptionsT()
    model.version, model.description = 3, b"by hand"
    model.buffers = [
        make_buffer(),
        make_buffer(weights.tobytes()),
        make_buffer(bias.tobytes()),
        make_buffer(b"1.5.0\0"),
    ]
    tensors = [make_tensor((1, 4)), make_tensor((3, 4), 1), make_tensor((3,), 2), make_tensor((1, 3))]
    for tensor in (tensors[0], tensors[3]):
        tensor.shapeSignature = [-1, tensor.shape[1]]
    dense = make_operator(0, [0, 1, 2], [3], options, schema.BuiltinOptions.FullyConnectedOptions)
    model.operatorCodes = [make_code(schema.BuiltinOperator.FULLY_CONNECTED)]
    model.subgraphs = [make_graph(tensors, [dense], [0], [3])]
    model.signatureDefs = [make_signature()]
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = b"min_runtime_version", 3
    model.metadata = [metadata]
    return model


def pack(model):
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
