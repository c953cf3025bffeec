"""The upstream that keeps what it is given, for people to look at: nothing leaves."""
