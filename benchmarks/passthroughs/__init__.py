"""The least that one would write with each HTTP library: a body in, the upstream's bytes out, nothing else."""
