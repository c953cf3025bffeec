"""Access tokens for upstreams with an OAuth2 login: requests, answers and the schedule (pure), and
the source that fetches them.
"""
