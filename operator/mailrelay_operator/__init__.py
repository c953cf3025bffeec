"""The control plane: MailRelay, MailSender and MailDomain become objects and configuration.

Of the gateway it may import `mailrelay_gateway.config` only: the contract between the two.
"""

__version__ = "0.1.0"
