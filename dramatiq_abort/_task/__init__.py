"""What a task calls."""
