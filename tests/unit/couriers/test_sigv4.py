"""Our signatures for AWS against those of AWS's own SDK: 200 requests that botocore has signed,
half of them with a session token, recorded in tests/golden/gateway/sigv4.jsonl.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mailrelay_gateway.couriers.api.sigv4 import AwsKeys, signed_headers

RECORDED = Path(__file__).parents[2] / "golden" / "gateway" / "sigv4.jsonl"


def test_every_signature_is_botocores() -> None:
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    assert len(rows) == 200
    for row in rows:
        headers = signed_headers(
            AwsKeys(**row["keys"]),
            host=row["host"],
            path=row["path"],
            content_type=row["content_type"],
            body_sha256=hashlib.sha256(row["body"].encode()).hexdigest(),
            region=row["region"],
            service="ses",
            now=row["now"],
        )
        # RFC 9110 allows blanks after the commas, and botocore writes them.
        assert headers["authorization"].replace(", ", ",") == row["authorization"].replace(
            ", ", ","
        ), row
        assert headers["x-amz-date"] == row["date"]


def test_keys_are_the_same_after_packing_and_are_never_shown() -> None:
    keys = AwsKeys(access_key_id="AKIA", secret_access_key="s/e+cret", session_token="token")
    assert AwsKeys.unpacked(keys.packed()) == keys
    assert "cret" not in repr(keys)
    assert "token" not in repr(keys).replace("session_token", "")
