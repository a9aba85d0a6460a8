"""Results out: records go into the outbox, a file on this disk, and from there to every place that wants them."""
