"""Weights: the kernels of a model, and what they are held to while it is fine-tuned."""
