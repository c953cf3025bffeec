"""What the two services have in common for the pool: a request for an attempt, and the meaning of
its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from mailrelay_gateway.contract.api_upstreams import AccessKey, Graph, Ses
from mailrelay_gateway.couriers.api import aws, graph
from mailrelay_gateway.couriers.api.answers import read_graph, read_ses
from mailrelay_gateway.couriers.api.sigv4 import AwsKeys, signed_headers
from mailrelay_gateway.couriers.api.upload import Upload
from mailrelay_gateway.couriers.replies.rules import RuleBook
from mailrelay_gateway.couriers.replies.verdict import Verdict
from mailrelay_gateway.egress.client import Answer
from mailrelay_gateway.message.body import whole
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.reasons import Reason


class Unfit(Exception):
    """This service cannot be given the message, but another upstream may take it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        """`detail` is for the person who sent it."""
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A POST for one attempt."""

    path: str
    upload: Upload
    headers: Mapping[str, str]


class Service(Protocol):
    """A provider's API."""

    url: str
    most_recipients: int

    def request(self, message: Message, recipients: Sequence[str], token: str) -> Request:
        """The request, authorized by this token. Blocks for a large message. Raises Unfit, and
        OSError if the message cannot be read.
        """
        ...

    def read(self, answer: Answer, recipient_count: int, rules: RuleBook) -> Verdict:
        """What the answer means."""
        ...


class SesService:
    """Amazon SES, API v2. Tokens are AwsKeys, packed."""

    most_recipients = aws.MOST_RECIPIENTS

    def __init__(self, settings: Ses, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._settings = settings
        self._clock = clock
        self.url = settings.url
        given = settings.credentials
        #: With a static access key there is nothing to fetch.
        self.token = (
            AwsKeys(
                access_key_id=given.access_key_id,
                secret_access_key=given.secret_access_key,
                session_token=given.session_token,
            ).packed()
            if isinstance(given, AccessKey)
            else ""
        )
        parts = urlsplit(settings.url)
        default = {"https": 443, "http": 80}.get(parts.scheme)
        port = parts.port
        self._host = parts.hostname or ""
        if port is not None and port != default:
            self._host = f"{self._host}:{port}"

    def request(self, message: Message, recipients: Sequence[str], token: str) -> Request:
        """See Service."""
        for address in (message.envelope_sender, *recipients):
            if not address.isascii():
                raise Unfit(
                    Reason.ADDRESS_UNSENDABLE, f"SES takes no address beyond ASCII: {address}"
                )
        if (message.size + 2) // 3 * 4 > aws.MOST_OCTETS:
            raise Unfit(Reason.UPSTREAM_REJECTED, "SES takes at most 40 MiB, in base64")
        upload = aws.ses_upload(self._settings, message, recipients)
        headers = signed_headers(
            AwsKeys.unpacked(token),
            host=self._host,
            path=aws.SEND,
            content_type="application/json",
            body_sha256=upload.sha256(),
            region=self._settings.region,
            service="ses",
            now=self._clock(),
        )
        return Request(path=aws.SEND, upload=upload, headers=headers)

    def read(self, answer: Answer, recipient_count: int, rules: RuleBook) -> Verdict:
        """See Service."""
        return read_ses(answer, recipient_count, rules, now=self._clock())


class GraphService:
    """Microsoft Graph's sendMail."""

    most_recipients = graph.MOST_RECIPIENTS

    def __init__(self, settings: Graph, clock: Callable[[], float]) -> None:
        """`clock` gives Unix seconds."""
        self._settings = settings
        self._clock = clock
        self.url = settings.url
        self.token = ""
        self._path = graph.send_path(settings.mailbox)

    def request(self, message: Message, recipients: Sequence[str], token: str) -> Request:
        """See Service."""
        if message.size > graph.MOST_OCTETS:
            raise Unfit(Reason.UPSTREAM_REJECTED, "Graph takes at most 3 MiB")
        content = whole(message.body)
        if len(message.prelude) + len(content) != message.size:
            raise OSError(f"it is not as long as when it was stored ({message.size} octets)")
        end = _end_of_header(content)
        try:
            header = graph.addressed(
                content[:end], recipients, rewrite=self._settings.rewrite_recipients
            )
        except graph.EnvelopeMismatch as error:
            raise Unfit(
                Reason.ENVELOPE_MISMATCH,
                f"Graph sends to whoever the header names, and {error}: set rewriteRecipients",
            ) from None
        body = header + (content[end:] or b"\r\n")
        upload = Upload(
            head=b"",
            prelude=message.prelude,
            body=body,
            size=len(message.prelude) + len(body),
            tail=b"",
        )
        return Request(
            path=self._path,
            upload=upload,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "text/plain"},
        )

    def read(self, answer: Answer, recipient_count: int, rules: RuleBook) -> Verdict:
        """See Service."""
        return read_graph(answer, recipient_count, rules, now=self._clock())


def _end_of_header(content: bytes) -> int:
    """However long it is: corrections may have made it longer than what clients may send, and
    whoever is named in what is taken for the body would be sent to.
    """
    if content[:2] == b"\r\n":
        return 0
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 2
