"""The finished model as a directory: manifest, exported files, proof.

Import from the modules: `manifest` and `litert` must stay free of TensorFlow, so nothing is gathered here.
"""
