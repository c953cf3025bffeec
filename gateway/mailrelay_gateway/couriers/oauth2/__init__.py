"""Access tokens for upstreams that log us in by OAuth2: what is posted, what an answer means, when
to fetch (pure), and the source that does it.
"""
