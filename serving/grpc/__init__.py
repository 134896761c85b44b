"""The doors of gRPC, on one port: they translate, and the service decides, as for those of HTTP.

protos       what the messages are, and `descriptors.binpb`, which `make protos` makes of them
messages     their classes
tensors      tensors of either protocol to those that serving judges, and back
tfserving    tensorflow.serving.PredictionService and ModelService
inference    inference.GRPCInferenceService, the Open Inference Protocol
health       grpc.health.v1
method       one call: read, answered within its deadline, or refused with gRPC's code
server       all of it on a port, beside gunicorn's worker or alone: `python -m serving.grpc`
"""
