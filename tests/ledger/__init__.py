"""The ledger: rows, sinks, the writer behind the requests."""
