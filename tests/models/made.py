"""The contract's documents, with what most tests do not care about filled in: documents themselves
have no defaults. Each function makes the class that it is named after.
"""

from __future__ import annotations

from typing import Any

from mailrelay_gateway.contract import documents, status
from mailrelay_gateway.contract.documents import AuthenticationMode, OnTooManyRecipients, TlsMode


def listener_tls(**given: Any) -> documents.ListenerTls:
    """StartTLS."""
    return documents.ListenerTls(**{"mode": TlsMode.START_TLS, "certificates": ()} | given)


def listener_authentication(**given: Any) -> documents.ListenerAuthentication:
    """With login."""
    return documents.ListenerAuthentication(
        **{"mode": AuthenticationMode.REQUIRED, "client_cidrs": ()} | given
    )


def listener(**given: Any) -> documents.Listener:
    """SMTP with STARTTLS and login; needs name and port."""
    usual = {
        "protocol": "SMTP",
        "tls": listener_tls(),
        "authentication": listener_authentication(),
    }
    return documents.Listener(**usual | given)


def upstream_tls(**given: Any) -> documents.UpstreamTls:
    """STARTTLS, verified by the system's authorities."""
    usual = {"mode": TlsMode.START_TLS, "ca": None, "server_name": None, "certificate": None}
    return documents.UpstreamTls(**usual | given)


def smarthost(**given: Any) -> documents.Smarthost:
    """STARTTLS, and no login; needs hosts."""
    return documents.Smarthost(**{"tls": upstream_tls(), "auth": None} | given)


def upstream(**given: Any) -> documents.Upstream:
    """Ten connections; needs name and settings."""
    usual = {
        "connections": 10,
        "messages_per_connection": 100,
        "max_size": None,
        "max_recipients": None,
        "pace": (),
        "replies": (),
        "attribution": (),
        "control_headers": (),
        "pass_headers": (),
    }
    return documents.Upstream(**usual | given)


def pace(**given: Any) -> documents.Pace:
    """Of recipients, per second; needs name and count."""
    usual = {"unit": documents.RateUnit.RECIPIENTS, "per": 1.0}
    return documents.Pace(**usual | given)


def reply_rule(**given: Any) -> documents.ReplyRule:
    """Of any reply to MAIL or later; needs name and outcome."""
    usual = {
        "stage": None,
        "code": None,
        "enhanced": None,
        "text": None,
        "after": None,
        "scope": "Upstream",
        "reason": "",
    }
    return documents.ReplyRule(**usual | given)


def rate(**given: Any) -> documents.Rate:
    """Of messages, which are deferred; needs scope, count, per, and burst."""
    return documents.Rate(
        **{"unit": documents.RateUnit.MESSAGES, "on_limit": documents.OnLimit.DEFER} | given
    )


def limits(**given: Any) -> documents.Limits:
    """25 MiB for 1000 recipients, as often as one likes."""
    usual = {
        "max_size": 25 * 1024 * 1024,
        "max_recipients": 1000,
        "on_too_many_recipients": OnTooManyRecipients.REJECT_MESSAGE,
        "long_lines": documents.LongLines.ENCODE,
        "rates": (),
    }
    return documents.Limits(**usual | given)


def retry(**given: Any) -> documents.Retry:
    """Five days, with an hour at most between two attempts; nobody is told of delays."""
    return documents.Retry(
        **{"give_up_after": 5 * 86400.0, "max_interval": 3600.0, "warn_after": 0.0} | given
    )


def relay_reference(**given: Any) -> documents.RelayReference:
    """Of no generation; needs namespace and name."""
    return documents.RelayReference(**{"uid": "", "generation": 0} | given)


def relay_document(**given: Any) -> documents.RelayDocument:
    """One replica without listeners and upstreams; needs relay and hostname."""
    usual = {
        "suspend": False,
        "replicas": 1,
        "listeners": (),
        "upstreams": (),
        "routes": (),
        "limits": limits(),
        "retry": retry(),
        "null_sender": "",
        "admin_token_sha256": "",
        "admin_certificate": None,
        "egress": documents.Egress(allowed_cidrs=(), loopback=False, proxy=""),
    }
    return documents.RelayDocument(**usual | given)


def sha256_verifier(**given: Any) -> documents.Sha256Verifier:
    """Without end; needs hash."""
    return documents.Sha256Verifier(**{"until": ""} | given)


def sender(**given: Any) -> documents.Sender:
    """One that can neither log in nor send; needs uid, namespace, name, and username."""
    return documents.Sender(
        **{"verifiers": (), "addresses": (), "suspend": False, "bulk": False} | given
    )


def upstream_status(**given: Any) -> status.UpstreamStatus:
    """Nothing is known of it; needs name."""
    usual = {
        "state": status.UpstreamState.UNKNOWN,
        "reason": "",
        "message": "",
        "since": "",
        "senders": (),
    }
    return status.UpstreamStatus(**usual | given)


def queue_status(**given: Any) -> status.QueueStatus:
    """Empty."""
    return status.QueueStatus(
        **{"messages": 0, "oldest": "", "dead_letters": 0, "unrouted": 0} | given
    )


def gateway_status(**given: Any) -> status.GatewayStatus:
    """One that accepts mail, and no more."""
    usual = {
        "version": "1",
        "digest": "",
        "files": {},
        "schema_number": documents.SCHEMA,
        "problem": "",
        "hostname": "",
        "started_at": "2026-01-01T00:00:00Z",
        "accepting": True,
        "suspended": False,
        "listeners": (),
        "ports": {},
        "not_serving": (),
        "upstreams": (),
        "queue": queue_status(),
    }
    return status.GatewayStatus(**usual | given)
