"""What loads a server from outside, for the benchmark and for the campaign against the server; no bmp in it."""
