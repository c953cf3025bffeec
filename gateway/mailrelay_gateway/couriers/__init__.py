"""Delivery: upstreams, their connections, and the classification of their replies."""
