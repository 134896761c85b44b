"""Compression: a model made smaller or faster, under a promise that is measured on the exported file."""
