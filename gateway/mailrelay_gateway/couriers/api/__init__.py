"""Upstreams that take mail over HTTPS: Amazon SES (API v2) and Microsoft Graph."""
