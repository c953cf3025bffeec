"""The durable queue: what a stored message is, where it lies, and when it is tried next."""
