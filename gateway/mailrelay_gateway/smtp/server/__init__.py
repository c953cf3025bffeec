"""The server's side of SMTP as bytes and values: commands, parameters, content, SASL. Pure."""
