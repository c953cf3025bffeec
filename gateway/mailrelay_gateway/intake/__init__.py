"""The way in: listeners, sessions, authentication, TLS. Stores nothing and delivers
nothing itself.
"""
