"""The client's side of SMTP without I/O: commands, states, events, replies. Pure."""
