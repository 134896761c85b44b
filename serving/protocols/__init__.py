"""What protocols mean, however their messages travel: what HTTP and gRPC have in common.

inference     the Open Inference Protocol, version 2
tfserving     TensorFlow Serving's
repository    the former's repository, which is bmp's registry
"""
