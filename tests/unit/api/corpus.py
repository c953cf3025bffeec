"""Good and bad resources, and what is said about the bad ones: by our Python and by the API server.

Every rule of the API stands here with at least one resource that breaks it (a test counts them).
tests/unit/api runs the corpus through `parse`; tests/e2e/test_crds.py through a real API server.
"""

from __future__ import annotations

from tests.unit.api.accepted import GOOD
from tests.unit.api.documents import (
    domain,
    relay,
    sender,
)
from tests.unit.api.refused import Bad, Change
from tests.unit.api.refused_api_upstreams import BAD_API_UPSTREAMS
from tests.unit.api.refused_others import BAD_OTHERS
from tests.unit.api.refused_relays import BAD_RELAYS
from tests.unit.api.refused_replies import BAD_REPLIES

__all__ = ["BAD", "CHANGES", "GOOD", "Bad", "Change"]

BAD: tuple[Bad, ...] = (*BAD_RELAYS, *BAD_API_UPSTREAMS, *BAD_REPLIES, *BAD_OTHERS)

CHANGES: tuple[Change, ...] = (
    Change(
        name="volume grows",
        old=relay(queue={"storage": {"size": "1Gi"}}),
        new=relay(queue={"storage": {"size": "1025Mi"}}),
        sentence=None,
    ),
    # Whether a volume can shrink to that is seen at the claims: condition VolumeCannotShrink.
    Change(
        name="volume shrinks",
        old=relay(queue={"storage": {"size": "1Gi"}}),
        new=relay(queue={"storage": {"size": "1023Mi"}}),
        sentence=None,
    ),
    Change(
        name="default said out loud",
        old=relay(),
        new=relay(queue={"storage": {"size": "10Gi", "accessMode": "ReadWriteOnce"}}),
        sentence=None,
    ),
    Change(
        name="storage becomes ephemeral",
        old=relay(),
        new=relay(queue={"ephemeral": {}}),
        sentence="The kind of queue is immutable,",
    ),
    Change(
        name="ephemeral by leaving the queue out",
        old=relay(queue={"ephemeral": {}}),
        new=relay(),
        sentence="The kind of queue is immutable,",
    ),
    Change(
        name="another storage class",
        old=relay(queue={"storage": {"storageClassName": "fast"}}),
        new=relay(queue={"storage": {"storageClassName": "slow"}}),
        sentence="storageClassName is immutable, since existing",
    ),
    Change(
        name="a storage class later",
        old=relay(),
        new=relay(queue={"storage": {"storageClassName": "slow"}}),
        sentence="storageClassName is immutable, since existing",
    ),
    Change(
        name="another access mode",
        old=relay(queue={"storage": {"size": "10Gi"}}),
        new=relay(queue={"storage": {"size": "10Gi", "accessMode": "ReadWriteOncePod"}}),
        sentence="The access mode cannot be changed",
    ),
    Change(
        name="other ports and upstreams",
        old=relay(),
        new=relay(
            listeners=[{"name": "other", "port": 25}], upstreams=[{"name": "mx", "direct": {}}]
        ),
        sentence=None,
    ),
    Change(
        name="another relay",
        old=sender(),
        new=sender(relayRef={"name": "other"}),
        sentence="relayRef is immutable: create another",
    ),
    Change(
        name="own namespace written down",
        old=sender(),
        new=sender(relayRef={"name": "relay", "namespace": "default"}),
        sentence=None,
    ),
    Change(
        name="a relay of another namespace",
        old=sender(relayRef={"name": "relay", "namespace": "mail"}),
        new=sender(relayRef={"name": "relay", "namespace": "post"}),
        sentence="relayRef is immutable: create another",
    ),
    Change(
        name="another class of load balancer",
        old=relay(service={"type": "LoadBalancer"}),
        new=relay(service={"type": "LoadBalancer", "loadBalancerClass": "example.com/internal"}),
        sentence="loadBalancerClass is immutable: set service.type",
    ),
    Change(
        name="becomes a load balancer",
        old=relay(),
        new=relay(service={"type": "LoadBalancer", "loadBalancerClass": "example.com/internal"}),
        sentence=None,
    ),
    Change(
        name="other addresses",
        old=sender(),
        new=sender(**{"from": ["a@example.com"]}, suspend=True),
        sentence=None,
    ),
    Change(
        name="another domain",
        old=domain(),
        new=domain(domain="example.org"),
        sentence="domain is immutable: create another",
    ),
    Change(
        name="another relay for the domain",
        old=domain(),
        new=domain(relayRef={"name": "other"}),
        sentence=None,
    ),
)
