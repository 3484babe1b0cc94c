"""Circuit breakers, concurrency limits, retries: plain numbers on one clock."""
