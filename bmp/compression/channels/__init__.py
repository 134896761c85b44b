"""Channels: which ones belong together, which are needed least, and the network without them."""
