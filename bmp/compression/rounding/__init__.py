"""Rounding to int8: in training, and the layers that do not bear it."""
