"""The sandbox upstream: captures mail instead of sending it."""
