"""Submission over SMTP: ports, sessions, logins, transactions."""
