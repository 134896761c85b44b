"""The check: which technique works on which layer."""
