"""The API of mailrelay.dev/v1alpha1: models of MailRelay, MailSender and MailDomain, their rules,
names and reasons. Pure.

The models are the source: crds/*.yaml and docs/reference/ are generated from them. Nothing here
accesses a cluster. Callers read resources with `parsing.parse`, and import models, names, reasons
and conditions from their modules.
"""
