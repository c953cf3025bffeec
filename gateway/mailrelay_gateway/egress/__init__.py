"""Where the gateway may connect on somebody's word, and how: HTTPS requests to addresses that were
checked. Whoever names a URL (token endpoints, webhooks, API upstreams) comes through here.
"""
