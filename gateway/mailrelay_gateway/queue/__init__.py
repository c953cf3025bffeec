"""The durable queue: stored messages, their storage, and their retry schedule."""
