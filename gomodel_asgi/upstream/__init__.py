"""One Target in, one Reply out: attempts, retries, fallbacks."""
