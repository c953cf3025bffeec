"""The way out: upstreams, their connections, and what their replies mean."""
