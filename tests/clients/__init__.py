"""Real clients with their default settings, against a gateway in front of fakes of each dialect."""
