"""Serving: the models over HTTP."""
