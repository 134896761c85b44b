"""The doors of HTTP: one Flask blueprint a protocol."""
