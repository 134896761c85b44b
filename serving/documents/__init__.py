"""What a server says of itself to whoever wants to use it: examples, an OpenAPI document, and a page to read."""
