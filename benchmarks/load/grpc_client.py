"""Asks a server once by gRPC and looks at the answer: `python grpc_client.py TARGET DIRECTORY`.

`ModelInfer` of the Open Inference Protocol, which bmp and MLServer both speak, with numbers as bytes. The request is
left behind as it travels, for a load generator that knows nothing of gRPC.
"""

import argparse
import struct
import sys
from pathlib import Path

import grpc
import numpy as np

from serving.grpc.messages import message_type

METHOD = "/inference.GRPCInferenceService/ModelInfer"
TOLERANCE = 1e-4


def write_request(model: str, input_name: str, array: np.ndarray) -> bytes:
    request = message_type("inference.ModelInferRequest")(model_name=model)
    request.inputs.add(name=input_name, datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(array.astype("<f4").tobytes())
    return request.SerializeToString()


def read_answer(data: bytes) -> np.ndarray:
    answer = message_type("inference.ModelInferResponse").FromString(data)
    (output,) = answer.outputs
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(tuple(output.shape))
    return np.reshape(output.contents.fp32_contents, tuple(output.shape))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("directory", type=Path, help="holds example.npy and expected.npy, and gets request.bin")
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    options = parser.parse_args()
    request = write_request(options.model, options.input, np.load(options.directory / "example.npy"))
    (options.directory / "request.bin").write_bytes(struct.pack(">BI", 0, len(request)) + request)  # not compressed
    expected = np.load(options.directory / "expected.npy")
    with grpc.insecure_channel(options.target) as channel:
        data = channel.unary_unary(METHOD)(request, timeout=30, wait_for_ready=True)
    answer = read_answer(data)
    if answer.shape != expected.shape or np.abs(answer - expected).max() > TOLERANCE:
        sys.exit(f"{options.target} answers\n{answer}\nand LiteRT\n{expected}")
    print(len(data))


if __name__ == "__main__":
    main()
