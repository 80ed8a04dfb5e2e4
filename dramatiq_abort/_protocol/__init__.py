"""The data sent between callers and workers: encoding, decoding and validation."""
