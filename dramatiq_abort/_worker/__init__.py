"""What only a worker process imports."""
