"""From a request to a Target: providers, hints, the host's policy."""
