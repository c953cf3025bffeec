"""`mailrelay` and `kubectl mailrelay`: the program that a person types. Nothing imports it.

Here live files, folders, terminals and child processes. What a MailRelay means is decided in
`plan`, never here.
"""
