"""A training planned before it starts: what it costs, where it fits, how fast it will be.

What a model computes and keeps is read off its traced graphs (tensors, trace, flops, footprint, cost), what there is
off the machine (machine), how fast a step is is timed (timing), and what several replicas would gain is predicted
(network, scaling). TensorFlow is imported by the rooms below, not here.
"""
