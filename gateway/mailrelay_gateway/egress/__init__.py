"""HTTPS requests to URLs in resources (token endpoints, webhooks, API upstreams), restricted to
allowed addresses.
"""
