"""Pools of SMTP connections to one upstream, for every kind of upstream that speaks SMTP."""
