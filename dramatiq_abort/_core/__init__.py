"""The interrupt core, apart from what is compiled: it knows nothing of dramatiq."""
