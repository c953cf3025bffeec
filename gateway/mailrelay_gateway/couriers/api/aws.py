"""Requests to Amazon SES (API v2) and to STS, and the answers of STS. Pure.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import unescape
from urllib.parse import urlencode

from mailrelay_gateway.contract.api_upstreams import Ses, WebIdentity
from mailrelay_gateway.contract.moments import parse_rfc3339
from mailrelay_gateway.couriers.api.sigv4 import AwsKeys
from mailrelay_gateway.couriers.api.upload import Upload
from mailrelay_gateway.couriers.oauth2.answers import Grant, NoToken
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.reasons import Reason

SEND = "/v2/email/outbound-emails"
#: Recipients of a request, and octets of a message in base64.
MOST_RECIPIENTS = 50
MOST_OCTETS = 40 * 1024 * 1024
#: Seconds for which temporary keys are asked for; what any role allows.
SESSION = 3600
#: Characters of STS's words that are shown.
MAX_WORDS = 300

#: Elements of STS's answers; they are flat, so that no XML parser is needed.
_ELEMENT = re.compile(
    r"<(AccessKeyId|SecretAccessKey|SessionToken|Expiration|Code|Message)>\s*([^<]{0,8192})\s*</\1>"
)
#: Errors of STS or of the issuer, rather than of the request.
_PASSING = frozenset(
    {"IDPCommunicationError", "InternalFailure", "ServiceUnavailable", "Throttling"}
)


def ses_upload(service: Ses, message: Message, recipients: Sequence[str]) -> Upload:
    """The request's body: the message as it is, for these recipients whatever its header says."""
    document: dict[str, object] = {"Destination": {"ToAddresses": list(recipients)}}
    if message.envelope_sender:  # without it SES takes the header From
        document["FromEmailAddress"] = message.envelope_sender
    if service.configuration_set:
        document["ConfigurationSetName"] = service.configuration_set
    if service.tenant:
        document["TenantName"] = service.tenant
    start = json.dumps(document, separators=(",", ":"))[:-1]
    return Upload(
        head=f'{start},"Content":{{"Raw":{{"Data":"'.encode(),
        prelude=message.prelude,
        body=message.body,
        size=message.size,
        tail=b'"}}}',
    )


def sts_body(settings: WebIdentity, token: str, session: str) -> bytes:
    """The form for STS; `session` names the gateway in AWS's audit log."""
    return urlencode(
        {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": settings.role_arn,
            "RoleSessionName": session_name(session),
            "DurationSeconds": SESSION,
            "WebIdentityToken": token,
        }
    ).encode()


def session_name(text: str) -> str:
    """The nearest valid RoleSessionName: 2 to 64 characters of a small set."""
    return re.sub(r"[^A-Za-z0-9_=,.@-]", "-", text)[:64].ljust(2, "-")


def read_sts(
    status: int, headers: Mapping[str, str], body: bytes, *, secrets: Iterable[str], now: float
) -> Grant | NoToken:
    """Temporary keys, packed as a token, or why there are none. `now` is Unix seconds by STS's
    clock; `secrets` are removed from messages.
    """
    found = {
        name: unescape(value) for name, value in _ELEMENT.findall(body.decode("utf-8", "replace"))
    }
    if status == 200:
        return _keys(found, now)
    code, words = found.get("Code", ""), found.get("Message", "")
    for secret in secrets:
        words = words.replace(secret, "[...]")
        words = re.sub(re.escape(secret[:16]) + r"\S*", "[...]", words)
    words = "".join(c if c.isprintable() else "?" for c in " ".join(words.split()))[:MAX_WORDS]
    detail = f"answered {status} {code[:64]}".rstrip() + (f": {words}" if words else "")
    if status == 429 or status >= 500 or not code or code in _PASSING:
        wait = headers.get("retry-after", "")
        return NoToken(
            reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE,
            detail=detail,
            error=code,
            wait=float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 5 else None,
        )
    return NoToken(reason=Reason.UPSTREAM_TOKEN_REFUSED, detail=detail, error=code)


def _keys(found: Mapping[str, str], now: float) -> Grant | NoToken:
    try:
        keys = AwsKeys(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
        )
        ends = parse_rfc3339(found["Expiration"])
    except KeyError:
        ends = None
    if ends is None:
        return NoToken(
            reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE, detail="answered 200 without usable keys"
        )
    life = ends.timestamp() - now
    return Grant(access_token=keys.packed(), life=max(3.0, min(life, 86400.0)))
