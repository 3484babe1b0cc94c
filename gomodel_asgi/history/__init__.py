"""What was said before, and whose it is. Knows stores, never the network."""
