"""Signs requests to AWS (Signature Version 4). Pure: the time is an argument.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

from mailrelay_gateway.contract.moments import stamp

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """An access key; `session_token` is empty for a permanent one."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)

    def packed(self) -> str:
        """The three as one opaque token."""
        return json.dumps([self.access_key_id, self.secret_access_key, self.session_token])

    @classmethod
    def unpacked(cls, token: str) -> Self:
        """What `packed` made."""
        key_id, secret, session = json.loads(token)
        return cls(access_key_id=key_id, secret_access_key=secret, session_token=session)


def signed_headers(
    keys: AwsKeys,
    *,
    host: str,
    path: str,
    content_type: str,
    body_sha256: str,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """The headers of a signed POST without a query, except Host. `host` is as in the Host header,
    `body_sha256` in hex, `now` in Unix seconds.
    """
    moment = stamp(int(now))
    headers = {"content-type": content_type, "host": host, "x-amz-date": moment}
    if keys.session_token:
        headers["x-amz-security-token"] = keys.session_token
    names = ";".join(sorted(headers))
    canonical = "\n".join(
        ("POST", quote(path, safe="/-_.~"), "", _canonical(headers), names, body_sha256)
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join((_ALGORITHM, moment, scope, _sha256(canonical.encode())))
    key = f"AWS4{keys.secret_access_key}".encode()
    for part in (moment[:8], region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    del headers["host"]  # the HTTP client writes it
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key_id}/{scope},"
        f" SignedHeaders={names}, Signature={signature}"
    )
    return headers


def _canonical(headers: Mapping[str, str]) -> str:
    """Each header on a line of its own, with a line end after the last."""
    return "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers))


def _sha256(octets: bytes) -> str:
    return hashlib.sha256(octets).hexdigest()
