"""The gRPC doors, spoken to by TensorFlow Serving's stubs and Triton's client; for all doors see test_doors.py."""

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc_doors
import numpy as np
import pytest
import tensorflow as tf
from door_models import Models, make_inputs, publish_door_models
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from numbered_models import eventually
from raw_models import MODELS, make_columns, publish_models
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from bmp import __version__
from bmp.signature import Arrays
from bmp.transforms import Columns
from serving.app import ServingApp, create_app
from serving.codec.tensors import datatype_of
from serving.grpc import gather
from serving.grpc.server import GrpcServer
from serving.settings import Settings

MAX_BYTES = 200_000
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    root = tmp_path_factory.mktemp("grpc")
    models = publish_door_models(root)
    publish_models(root, ["photos"])
    return models


@pytest.fixture(scope="module")
def app(models: Models) -> ServingApp:
    app = create_app(Settings(registry=models.registry.root))
    eventually(app.is_started, within_s=60)
    return app


@pytest.fixture(scope="module")
def server(app: ServingApp) -> Iterator[GrpcServer]:
    server = GrpcServer(app.service, "127.0.0.1:0", MAX_BYTES)
    server.start()
    yield server
    server.stop(0)


@pytest.fixture(scope="module")
def channel(server: GrpcServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


def check_error(call: Callable[[], Any], code: Code, says: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert (caught.value.code(), says in caught.value.details()) == (code, True), caught.value.details()


# === TensorFlow Serving ===


@dataclass
class Serving:
    """Its stubs."""

    predictions: prediction_service_pb2_grpc.PredictionServiceStub
    models: model_service_pb2_grpc.ModelServiceStub

    def predict(self, model: str, inputs: dict[str, Any], *only: str, metadata: Any = (), **spec: Any) -> Any:
        request = predict_pb2.PredictRequest(output_filter=only)
        fill(request.model_spec, model, **spec)
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return self.predictions.Predict(request, metadata=metadata)


def fill(spec: Any, model: str, version: int | None = None, label: str | None = None, signature: str = "") -> None:
    spec.name, spec.signature_name = model, signature
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


@pytest.fixture(scope="module")
def serving(channel: grpc.Channel) -> Serving:
    stubs = prediction_service_pb2_grpc.PredictionServiceStub, model_service_pb2_grpc.ModelServiceStub
    return Serving(*(stub(channel) for stub in stubs))


def to_strings(column: np.ndarray) -> np.ndarray:
    if column.dtype != object:
        return column
    return np.array([value.encode() if isinstance(value, str) else value for value in column], object)


def make_input(columns: Columns, context: dict[str, Any] | None = None) -> Any:
    """tf.Examples of columns."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    examples = [make_example(row) for row in rows]
    if context is None:
        return input_pb2.Input(example_list=input_pb2.ExampleList(examples=examples))
    listed = input_pb2.ExampleListWithContext(examples=examples, context=make_example(context))
    return input_pb2.Input(example_list_with_context=listed)


def make_example(row: dict[str, Any]) -> tf.train.Example:
    return tf.train.Example(features=tf.train.Features(feature={n: make_feature(v) for n, v in row.items()}))


def make_feature(value: Any) -> tf.train.Feature:
    if isinstance(value, str | bytes):
        value = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    values = np.ravel(value)
    if values.dtype.kind == "i":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def test_predict(serving: Serving, models: Models) -> None:
    inputs = make_inputs("pairs", 3)
    response = serving.predict("pairs", inputs)
    assert (response.model_spec.name, response.model_spec.version.value) == ("pairs", 1)
    assert response.model_spec.signature_name == "serving_default"
    for name, expected in models.answer("pairs", 1, inputs).items():
        np.testing.assert_allclose(tf.make_ndarray(response.outputs[name]), expected, atol=1e-5)
    assert list(serving.predict("pairs", inputs, "q", signature="serving_default").outputs) == ["q"]


def test_files_and_texts_are_strings(serving: Serving, app: ServingApp) -> None:
    for model in ("photos", "reviews", "passengers"):
        columns = make_columns(MODELS[model][0], 3)
        response = serving.predict(model, {name: to_strings(column) for name, column in columns.items()})
        for name, expected in app.service.get(model).predict_raw(columns).items():
            np.testing.assert_allclose(tf.make_ndarray(response.outputs[name]), expected, atol=1e-6)


X = {"x": np.ones((1, 3), np.float32)}


@pytest.mark.parametrize(
    ("inputs", "spec", "code", "says"),
    [
        (X, {"model": "flag"}, Code.NOT_FOUND, "Servable not found for request: Latest(flag)"),
        (X, {"version": 7}, Code.NOT_FOUND, "Servable not found for request: Specific(flags, 7)"),
        (X, {"version": -1}, Code.NOT_FOUND, "Specific(flags, -1)"),
        (X, {"label": "canari"}, Code.NOT_FOUND, "Unrecognized servable version label: canari"),
        (X, {"signature": "serve"}, Code.INVALID_ARGUMENT, 'Serving signature name: "serve" not found'),
        (X, {"model": ""}, Code.INVALID_ARGUMENT, "Several models are served"),
        ({"x": np.ones((1, 3))}, {}, Code.INVALID_ARGUMENT, "Input 'x' is float64; expected float32 (B, 3)"),
        ({"x": np.ones(3, np.float32)}, {}, Code.INVALID_ARGUMENT, "has shape (3,); expected float32 (B, 3)"),
        ({"x": [["a", "b", "c"]]}, {}, Code.INVALID_ARGUMENT, "inputs.x is BYTES; expected numbers"),
        ({"x": np.float32(1)}, {}, Code.INVALID_ARGUMENT, "inputs.x.tensor_shape is []"),
        ({"x": np.float32([[1, 2, np.nan]])}, {}, Code.INVALID_ARGUMENT, "holds NaN or infinity at [0][2]"),
        ({}, {}, Code.INVALID_ARGUMENT, "Input 'x' is missing"),
        ({"review": [b"\xff"]}, {"model": "reviews"}, Code.INVALID_ARGUMENT, "not valid UTF-8"),
        ({"photo": [b"GIF"]}, {"model": "photos"}, Code.INVALID_ARGUMENT, "photo"),
    ],
    ids=str,
)
def test_bad_predict(serving: Serving, inputs: Any, spec: dict[str, Any], code: Code, says: str) -> None:
    check_error(lambda: serving.predict(**{"model": "flags", "inputs": inputs, **spec}), code, says)


def test_bad_filters(serving: Serving) -> None:
    check_error(lambda: serving.predict("flags", X, "z"), Code.INVALID_ARGUMENT, "no output 'z'. Outputs: y.")
    check_error(lambda: serving.predict("flags", X, "y", "y"), Code.INVALID_ARGUMENT, "output_filter names 'y' twice")


def test_quality_is_metadata(serving: Serving) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "flags"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(X["x"]))
    _, call = serving.predictions.Predict.with_call(request, metadata=[("bmp-quality", "fast")])
    assert dict(call.trailing_metadata()) == {"bmp-model": "flags/1/float32"}
    _, call = serving.predictions.Predict.with_call(request)
    assert dict(call.trailing_metadata()) == {}
    check_error(
        lambda: serving.predict("flags", X, metadata=[("bmp-quality", "fats")]),
        Code.INVALID_ARGUMENT,
        "Did you mean 'fast'?",
    )


@pytest.mark.parametrize("model", ["passengers", "reviews", "photos"])
def test_classify(serving: Serving, app: ServingApp, model: str) -> None:
    columns, loaded = make_columns(MODELS[model][0], 3), app.service.get(model)
    request = classification_pb2.ClassificationRequest(input=make_input(columns))
    request.model_spec.name = model
    response = serving.predictions.Classify(request)
    assert response.model_spec.version.value == 1
    expected = loaded.rank_labels(loaded.predict_raw(columns), len(loaded.manifest.labels))
    results = [[(one.label, one.score) for one in each.classes] for each in response.result.classifications]
    assert results == [[(label, pytest.approx(score)) for label, score in pairs] for pairs in expected]


def test_regress(serving: Serving, models: Models) -> None:
    inputs = make_inputs("prices", 3)
    request = regression_pb2.RegressionRequest(input=make_input(inputs))
    request.model_spec.name = "prices"
    values = [regression.value for regression in serving.predictions.Regress(request).result.regressions]
    np.testing.assert_allclose(values, models.answer("prices", 1, inputs)["price"].ravel(), rtol=1e-5)


def test_context_is_part_of_every_example(serving: Serving) -> None:
    columns = make_columns(MODELS["passengers"][0], 1)
    whole, split = (classification_pb2.ClassificationRequest() for _ in range(2))
    whole.input.CopyFrom(make_input(columns))
    split.input.CopyFrom(make_input({"age": columns["age"]}, {name: columns[name][0] for name in ("fare", "sex")}))
    whole.model_spec.name = split.model_spec.name = "passengers"
    assert serving.predictions.Classify(whole) == serving.predictions.Classify(split)
    split.input.CopyFrom(make_input({"age": np.ones(2000, np.float32)}, {"sex": "a" * 200}))
    check_error(lambda: serving.predictions.Classify(split), Code.INVALID_ARGUMENT, "'context' would be")


ROW = {"age": np.ones(1, np.float32), "fare": np.ones(1, np.float32), "sex": np.array(["a"], object)}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "'input' holds no example"),
        ({**ROW, "fare": np.array(["1"], object)}, "examples[0].fare is a string; expected a number"),
        ({**ROW, "fare": np.float32([np.nan])}, "examples[0].fare is null; expected a number"),
        ({**ROW, "sex": np.array([b"\xff"], object)}, "examples[0].sex holds a string that is not valid UTF-8"),
        ({**ROW, "cabin": np.array(["B5"], object)}, "unknown feature 'cabin'"),
        ({name: ROW[name] for name in ("age", "sex")}, "examples[0].fare is missing"),
    ],
)
def test_bad_examples(serving: Serving, columns: Any, says: str) -> None:
    request = classification_pb2.ClassificationRequest(input=make_input(columns) if columns else None)
    request.model_spec.name = "passengers"
    check_error(lambda: serving.predictions.Classify(request), Code.INVALID_ARGUMENT, says)


def test_the_wrong_verb(serving: Serving) -> None:
    request = regression_pb2.RegressionRequest(input=make_input(make_inputs("flags", 1)))
    request.model_spec.name = "flags"
    check_error(lambda: serving.predictions.Regress(request), Code.INVALID_ARGUMENT, "'flags' cannot regress")


def test_multi_inference(serving: Serving) -> None:
    columns = make_columns(MODELS["passengers"][0], 2)
    request = inference_pb2.MultiInferenceRequest(input=make_input(columns))
    request.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "passengers"
    (result,) = serving.predictions.MultiInference(request).results
    assert (result.model_spec.name, len(result.classification_result.classifications)) == ("passengers", 2)
    request.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "passengers"
    check_error(lambda: serving.predictions.MultiInference(request), Code.INVALID_ARGUMENT, "twice")
    request.tasks[1].method_name = "tensorflow/serving/predict"
    check_error(
        lambda: serving.predictions.MultiInference(request),
        Code.INVALID_ARGUMENT,
        "method_name is 'tensorflow/serving/p",
    )


def test_metadata(serving: Serving) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "pairs"
    response, signatures = serving.predictions.GetModelMetadata(request), get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert {
        name: (info.dtype, [dim.size for dim in info.tensor_shape.dim]) for name, info in signature.inputs.items()
    } == {
        "a": (tf.float32, [-1, 3]),
        "b": (tf.int32, [-1, 2]),
    }
    request.metadata_field[0] = "signatures"
    check_error(lambda: serving.predictions.GetModelMetadata(request), Code.INVALID_ARGUMENT, "'signatures'; expected")


def test_status(serving: Serving) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    for spec, versions in (({}, [2, 1]), ({"version": 1}, [1]), ({"label": "canary"}, [2])):
        fill(request.model_spec, "flags", **spec)
        states = serving.models.GetModelStatus(request).model_version_status
        assert [state.version for state in states] == versions
        assert {(state.state, state.status.error_code) for state in states} == {(30, 0)}
    fill(request.model_spec, "flag")
    check_error(lambda: serving.models.GetModelStatus(request), Code.NOT_FOUND, "Could not find any versions of model")


def test_a_configuration_is_refused(serving: Serving) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="a", base_path="/")
    check_error(
        lambda: serving.models.HandleReloadConfigRequest(request),
        Code.FAILED_PRECONDITION,
        "it serves what the registry says",
    )


# === Open Inference Protocol ===


@pytest.fixture(scope="module")
def triton(server: GrpcServer) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def to_inputs(arrays: Arrays) -> list[InferInput]:
    return [
        InferInput(name, array.shape, datatype_of(array.dtype.name)).set_data_from_numpy(array)
        for name, array in arrays.items()
    ]


def test_server(triton: InferenceServerClient) -> None:
    assert triton.is_server_live() and triton.is_server_ready()
    server = triton.get_server_metadata()
    assert (server.name, server.version) == ("bmp", __version__)
    assert {"binary_tensor_data", "statistics"} <= set(server.extensions)


def test_model(triton: InferenceServerClient) -> None:
    assert triton.is_model_ready("flags") and triton.is_model_ready("flags", "canary")
    described = triton.get_model_metadata("pairs")
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in described.inputs] == [
        ("a", "FP32", [-1, 3]),
        ("b", "INT32", [-1, 2]),
    ]
    with pytest.raises(InferenceServerException, match="Did you mean 'flags'"):
        triton.is_model_ready("flag")


def test_infer(triton: InferenceServerClient, models: Models) -> None:
    inputs = make_inputs("pairs", 3)
    result = triton.infer("pairs", to_inputs(inputs), request_id="7")
    assert (result.get_response().id, result.get_response().model_version) == ("7", "1")
    for name, expected in models.answer("pairs", 1, inputs).items():
        np.testing.assert_allclose(result.as_numpy(name), expected, atol=1e-5)
    result = triton.infer("pairs", to_inputs(inputs), outputs=[InferRequestedOutput("q")])
    assert [output.name for output in result.get_response().outputs] == ["q"]


@pytest.mark.parametrize("quick_s", [0.0, 1.0])
def test_those_who_ask_at_the_same_time_get_each_their_own_answer(
    triton: InferenceServerClient, models: Models, quick_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they wait for a thread or not."""
    monkeypatch.setattr(gather, "_QUICK_S", quick_s)
    asked = [make_inputs(("flags", "prices")[seed % 2], 1 + seed % 3, seed) for seed in range(60)]
    answers = queue.SimpleQueue[Any]()
    for number, inputs in enumerate(asked):
        name = "flags" if "x" in inputs else "prices"
        triton.async_infer(
            name, to_inputs(inputs), lambda result, error: answers.put((result, error)), request_id=str(number)
        )
    for _ in asked:
        result, error = answers.get(timeout=10)
        assert error is None
        response = result.get_response()
        expected = models.answer(response.model_name, 1, asked[int(response.id)])
        for name, array in expected.items():
            np.testing.assert_allclose(result.as_numpy(name), array, rtol=1e-5, atol=1e-5)


def test_labels(triton: InferenceServerClient, models: Models) -> None:
    inputs = make_inputs("flags", 2)
    wanted = [InferRequestedOutput("y", class_count=1)]
    answer = triton.infer("flags", to_inputs(inputs), "canary", wanted).as_numpy("y")
    probabilities = models.answer("flags", 2, inputs)["y"]
    for (said,), row in zip(answer, probabilities, strict=True):
        share, index, label = said.decode().split(":")
        assert (int(index), label) == (row.argmax(), ("no", "yes")[row.argmax()])
        assert float(share) == pytest.approx(row.max(), rel=1e-5)


def test_raw_features(triton: InferenceServerClient, app: ServingApp) -> None:
    for model in ("photos", "reviews", "passengers"):
        columns = make_columns(MODELS[model][0], 2)
        result = triton.infer(model, to_inputs(columns))
        for name, expected in app.service.get(model).predict_raw(columns).items():
            np.testing.assert_allclose(result.as_numpy(name), expected, atol=1e-6)


def test_stream(triton: InferenceServerClient, models: Models) -> None:
    """A refusal in it ends nothing."""
    inputs, answers = make_inputs("flags", 2), queue.SimpleQueue[Any]()
    triton.start_stream(lambda result, error: answers.put((result, error)))
    names = ["flags", "flag", "flags"]
    for number, name in enumerate(names):
        triton.async_stream_infer(name, to_inputs(inputs), request_id=str(number))
    (first, _), (_, error), (last, _) = (answers.get(timeout=10) for _ in names)
    triton.stop_stream()
    assert "Did you mean 'flags'?" in str(error)
    for number, result in ((0, first), (2, last)):
        assert result.get_response().id == str(number)
        np.testing.assert_allclose(result.as_numpy("y"), models.answer("flags", 1, inputs)["y"], atol=1e-5)


def test_index_and_statistics(triton: InferenceServerClient) -> None:
    triton.infer("prices", to_inputs(make_inputs("prices", 3)))
    rows = [(row.name, row.version, row.state) for row in triton.get_model_repository_index().models]
    assert ("flags", "1", "READY") in rows and ("flags", "2", "READY") in rows
    (statistics,) = triton.get_inference_statistics("prices").model_stats
    assert statistics.inference_stats.success.count >= 1 and statistics.inference_count >= 3


def test_load_and_unload_are_not_for_clients(triton: InferenceServerClient) -> None:
    for order in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException, match=r"FAILED_PRECONDITION.*as the registry says"):
            order("flags")


def infer_input(**fields: Any) -> Any:
    return service_pb2.ModelInferRequest.InferInputTensor(
        **{"name": "x", "datatype": "FP32", "shape": [1, 3], **fields}
    )


REGION = {"shared_memory_region": service_pb2.InferParameter(string_param="r")}
RAW = [np.ones(3, np.float32).tobytes()]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"inputs": []}, "inputs is empty"),
        ({"inputs": [infer_input()]}, "its data has 0 elements; expected 3"),
        ({"inputs": [infer_input()] * 2, "raw_input_contents": RAW * 2}, "inputs names 'x' twice"),
        ({"inputs": [infer_input()], "raw_input_contents": RAW * 2}, "has 2 elements for 1 inputs"),
        ({"inputs": [infer_input()], "raw_input_contents": [b"123"]}, "3 bytes of data; FP32 of shape [1, 3] has 12"),
        (
            {"inputs": [infer_input(contents={"fp32_contents": [1] * 3})], "raw_input_contents": RAW},
            "inputs[0] has 'contents', but",
        ),
        ({"inputs": [infer_input(parameters=REGION)]}, "inputs[0] names a region of shared memory"),
        (
            {"inputs": [infer_input()], "raw_input_contents": RAW, "outputs": [{"name": "y", "parameters": REGION}]},
            "outputs[0] names a region of shared memory",
        ),
        (
            {"inputs": [infer_input(datatype="BYTES", contents={"bytes_contents": [b"a"] * 3})]},
            "inputs[0] is BYTES; expected numbers",
        ),
        (
            {
                "inputs": [infer_input()],
                "raw_input_contents": RAW,
                "parameters": {"quality": service_pb2.InferParameter(int64_param=1)},
            },
            "quality is a number; expected a string",
        ),
    ],
)
def test_bad_infer(channel: grpc.Channel, fields: dict[str, Any], says: str) -> None:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = service_pb2.ModelInferRequest(model_name="flags", **fields)
    check_error(lambda: stub.ModelInfer(request), Code.INVALID_ARGUMENT, says)


# === Health and reflection ===


def test_health(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    names = ["", "flags", "tensorflow.serving.PredictionService", "inference.GRPCInferenceService"]
    for name in names:
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == 1
        watched = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        assert next(watched).status == 1
        watched.cancel()
    assert set(names) <= set(stub.List(health_pb2.HealthListRequest()).statuses)
    check_error(lambda: stub.Check(health_pb2.HealthCheckRequest(service="flag")), Code.NOT_FOUND, "named 'flag'")
    assert next(stub.Watch(health_pb2.HealthCheckRequest(service="flag"))).status == 3


def test_a_client_without_messages_learns_them_by_reflection(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    assert {"grpc.health.v1.Health", "tensorflow.serving.ModelService", "inference.GRPCInferenceService"} <= services
    pool = DescriptorPool(database)
    for service in services:
        assert pool.FindServiceByName(service).methods
    assert pool.FindMessageTypeByName("tensorflow.TensorProto").fields_by_name["tensor_content"].number == 4


# === Calls ===


def test_what_is_no_message_is_refused(channel: grpc.Channel) -> None:
    for path in (grpc_doors.PREDICT, grpc_doors.INFER):
        check_error(lambda path=path: channel.unary_unary(path)(b"\xff"), Code.INVALID_ARGUMENT, "are no message of")


def test_an_unknown_method_is_refused(channel: grpc.Channel) -> None:
    check_error(lambda: channel.unary_unary(f"{grpc_doors.PREDICT}s")(b""), Code.UNIMPLEMENTED, "Method not found")


def test_messages_are_bounded(server: GrpcServer) -> None:
    """Also those that a compression has made short."""
    body = grpc_doors.pad(b"", MAX_BYTES)
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", compression=compression) as channel:
            call = channel.unary_unary(grpc_doors.PREDICT)
            check_error(lambda call=call: call(body), Code.INVALID_ARGUMENT, "Several models are served")
            check_error(lambda call=call: call(body + b" " * 2), Code.RESOURCE_EXHAUSTED, "larger than max")
