"""SMTP as bytes and values (RFC 5321): replies, grammar, the sans-IO protocol parts. Pure."""
