"""The command-line program `mailrelay` (and `kubectl mailrelay`). Nothing imports it.

Handles files, folders, terminals and child processes. `plan` decides what a MailRelay means.
"""
