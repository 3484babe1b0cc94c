"""What passes through the pipeline: one request on its way, and the reply that it ends in."""
