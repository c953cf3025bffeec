"""The control plane: turns MailRelay, MailSender and MailDomain into objects and configuration.

It may import only the contract (`mailrelay_gateway.contract`) of the gateway.
"""

__version__ = "0.1.0"
