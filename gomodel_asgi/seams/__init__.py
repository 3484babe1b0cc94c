"""What others may bring: the protocols of a Transport and a Store."""
