"""Which turns wait for a rating, per partition: the live shell around `feedback.routing`."""
