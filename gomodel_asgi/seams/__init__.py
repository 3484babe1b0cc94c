"""What a host may bring (the protocols of a Transport, a Store, the Counters of quotas), and what it sees of health."""
