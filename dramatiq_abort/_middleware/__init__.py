"""The middleware and its binding to each broker."""
