"""What a client calls: aborts, restores and inspection."""
