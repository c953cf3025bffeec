"""Fields by which a client could steer the provider are taken out, and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.attribution import Attribution
from mailrelay_gateway.contract.documents import RelayDocument, Sandbox
from mailrelay_gateway.message.control_fields import ControlFields
from mailrelay_gateway.policy.control_fields import control_fields
from tests.models import made

FIELDS = ControlFields(["X-SMTPAPI", "X-PM-"], ["X-PM-Tag"])
BODY = b"\r\nX-SMTPAPI: text\r\n"


@pytest.mark.parametrize(
    ("header", "left"),
    [
        (b"X-SMTPAPI: {}\r\nA: b\r\n", b"A: b\r\n"),
        (b"A: b\r\nx-smtpapi :\r\n {}\r\n\tmore\r\n", b"A: b\r\n"),
        (b"X-PM-Message-Stream: other\r\nX-PM-TAG: kept\r\n", b"X-PM-TAG: kept\r\n"),
        (b"X-SMTPAPI-Not: a\r\nX-PMX: b\r\nSubject: X-PM-Tag\r\n X-SMTPAPI: c\r\n", None),
        (b"X-SMTPAPI: a\r\nX-SMTPAPI: b\r\nX-PM-a: c\r\n", b""),
    ],
)
def test_what_is_taken_out(header: bytes, left: bytes | None) -> None:
    assert FIELDS.without(header + BODY) == (header if left is None else left) + BODY


def test_without_a_body_and_without_a_header() -> None:
    assert FIELDS.without(b"A: b\r\nX-SMTPAPI: a\r\n") == b"A: b\r\n"
    assert FIELDS.without(b"\r\nX-SMTPAPI: a\r\n") == b"\r\nX-SMTPAPI: a\r\n"


@given(st.text(alphabet="XxSMTPAIsmtpai-: \r\n\ta", max_size=80))
def test_no_field_is_left_and_the_rest_is(text: str) -> None:
    """Invariant: no reader finds such a field in what is left, and the body is as it was."""
    header = text.encode().replace(b"\r", b"").replace(b"\n", b"\r\n").lstrip(b"\r\n \t")
    header = b"\r\n".join(line for line in header.split(b"\r\n") if line.strip(b" \t"))
    content = b"A: b\r\n" + header + (b"\r\n" if header else b"") + BODY
    found = FIELDS.without(content)
    assert found.endswith(BODY)
    unfolded = found[: -len(BODY)].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    for line in unfolded.split(b"\r\n"):
        assert not line.lower().replace(b" ", b"").replace(b"\t", b"").startswith(b"x-smtpapi:")
    assert FIELDS.without(found) == found


def relay(*upstreams: dict[str, object]) -> RelayDocument:
    return made.relay_document(
        relay=made.relay_reference(namespace="mail", name="relay"),
        hostname="relay.example.com",
        upstreams=tuple(
            made.upstream(name=f"u{n}", settings=Sandbox(keep=1), **fields)
            for n, fields in enumerate(upstreams)
        ),
    )


def test_a_field_passes_where_every_upstream_with_such_fields_lets_it() -> None:
    ses: dict[str, object] = {"control_headers": ("X-SES-",), "pass_headers": ("X-SES-TAGS",)}
    grid: dict[str, object] = {"control_headers": ("X-SMTPAPI",)}
    mail = b"X-SES-Tags: a\r\nX-SMTPAPI: b\r\nX-SES-Tenant: c\r\n\r\n"
    assert control_fields(relay({}, {})).without(mail) == mail
    assert control_fields(relay(ses, {})).without(mail) == (
        b"X-SES-Tags: a\r\nX-SMTPAPI: b\r\n\r\n"
    )
    assert control_fields(relay(ses, grid)).without(mail) == b"\r\n"


def test_what_we_set_ourselves_is_taken_out_whatever_passes() -> None:
    ours: dict[str, object] = {
        "attribution": (Attribution(header="X-Ses-Tenant", template="t"),),
        "control_headers": ("X-SES-",),
        "pass_headers": ("X-SES-TENANT",),
    }
    assert control_fields(relay(ours)).without(b"X-SES-TENANT: a\r\n\r\n") == b"\r\n"
