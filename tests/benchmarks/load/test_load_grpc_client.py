"""What the client of the gRPC benchmark sends and reads; `ModelInfer` answers in one of two ways."""

import numpy as np
import pytest

from benchmarks.load.grpc_client import read_answer, write_request
from serving.grpc.messages import message_type

ARRAY = np.array([[1.5, -2.0, 0.25], [4.0, 5.0, 6.0]])


def test_numbers_are_sent_as_bytes() -> None:
    request = message_type("inference.ModelInferRequest").FromString(write_request("n", "x", ARRAY))
    (tensor,) = request.inputs
    assert (request.model_name, tensor.name, tensor.datatype, [*tensor.shape]) == ("n", "x", "FP32", [2, 3])
    assert np.frombuffer(request.raw_input_contents[0], "<f4").tolist() == ARRAY.ravel().tolist()


@pytest.mark.parametrize("as_bytes", [True, False])
def test_answers_are_read_either_way(as_bytes: bool) -> None:
    answer = message_type("inference.ModelInferResponse")(model_name="n")
    output = answer.outputs.add(name="y", datatype="FP32", shape=ARRAY.shape)
    if as_bytes:
        answer.raw_output_contents.append(ARRAY.astype("<f4").tobytes())
    else:
        output.contents.fp32_contents.extend(ARRAY.ravel())
    assert read_answer(answer.SerializeToString()).tolist() == ARRAY.tolist()
