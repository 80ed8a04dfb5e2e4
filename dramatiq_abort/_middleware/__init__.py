"""The middleware, and what it has on each broker."""
