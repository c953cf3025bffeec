"""Intake: listeners, sessions, authentication, TLS. It neither stores nor delivers
messages itself.
"""
