"""The way in over SMTP: ports, sessions, logins, transactions."""
