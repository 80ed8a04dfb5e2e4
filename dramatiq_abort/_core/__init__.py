"""The interrupt core, except for the compiled module; it knows nothing of dramatiq."""
