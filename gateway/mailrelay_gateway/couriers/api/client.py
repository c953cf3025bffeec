"""What the requests to one API upstream share, as it is configured: service, credentials, kept
connections, rules. Replaced as a whole when the settings change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from mailrelay_gateway.contract.api_upstreams import Api, Graph, Ses, WebIdentity
from mailrelay_gateway.contract.documents import UnknownKind, Upstream
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.api.services import (
    GraphService,
    Request,
    Service,
    SesService,
    Unfit,
)
from mailrelay_gateway.couriers.api.sts import StsKeys
from mailrelay_gateway.couriers.oauth2.answers import NoToken
from mailrelay_gateway.couriers.oauth2.fetcher import TokenFetcher
from mailrelay_gateway.couriers.oauth2.source import TokenSource
from mailrelay_gateway.couriers.replies.overrides import rule_book
from mailrelay_gateway.couriers.replies.verdict import Failure, Verdict
from mailrelay_gateway.couriers.smtp.conversion import convert, needs_conversion
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.couriers.smtp.tls import UnusableBundle, endpoint_context
from mailrelay_gateway.egress.channel import Channel
from mailrelay_gateway.egress.client import Answer, Egress, Unreachable
from mailrelay_gateway.egress.rules import NotAllowed
from mailrelay_gateway.message.attribution import Attributor
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.message.mime.seven_bit import SignatureWouldBreak, Unconvertible
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.commands import Capabilities

#: What the services take: seven bits and lines of RFC 5322.
_SEVEN_BIT = Capabilities()
_REENCODED = "it has to be re-encoded for this upstream"


class ApiClient:
    """One upstream's. Lives in one event loop; `close` or `retire` ends it."""

    channel: Channel

    def __init__(
        self,
        upstream: Upstream,
        around: Surroundings,
        egress: Egress,
        *,
        null_sender: str,
        on_no_token: Callable[[NoToken], None],
        on_token: Callable[[], None],
    ) -> None:
        """Connect to nothing but, for a token, its endpoint. `null_sender` stands in for the null
        sender; empty: nothing does.
        """
        self._null_sender = null_sender
        assert isinstance(upstream.settings, Api)  # the courier makes pools of this kind only
        self._upstream = upstream
        self.attributor = Attributor(upstream.attribution)
        self._rules = rule_book(upstream.replies, per_tenant=self.attributor.per_tenant)
        #: Why nothing can be sent as it is configured.
        self.defect: Failure | None = None
        self._service: Service | None = None
        self._token = ""
        self._fetcher: TokenFetcher | None = None
        self.host = ""
        self.tls = ""
        service = upstream.settings.service
        parts_by_word: list[tuple[str, object]] = [("service", service)]
        if isinstance(service, Ses):
            parts_by_word.append(("credentials", service.credentials))
        elif isinstance(service, Graph):
            parts_by_word.append(("credentials", service.login.grant))
        for word, part in parts_by_word:
            if isinstance(part, UnknownKind):
                self.defect = Failure(
                    Stage.CONNECT,
                    Reason.UPSTREAM_KIND_UNKNOWN,
                    f"its {word} is of the kind {part.kind!r}, which this version of the gateway"
                    " does not know: update the gateway",
                )
                return
        assert isinstance(service, Ses | Graph)
        parts = urlsplit(service.url)
        self.host = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self.tls = "https" if parts.scheme == "https" else ""
        try:
            context = endpoint_context(service.ca)
            self.channel = Channel(
                egress, service.url, tls=context, connections=upstream.connections
            )
            login_context = (
                endpoint_context(service.login.ca) if isinstance(service, Graph) else context
            )
        except UnusableBundle as error:
            self.defect = Failure(Stage.TLS, Reason.UPSTREAM_TLS_FAILED, str(error))
            return
        except NotAllowed as error:
            self.defect = Failure(Stage.CONNECT, Reason.UPSTREAM_URL_NOT_ALLOWED, str(error))
            return
        if isinstance(service, Graph):
            self._service = GraphService(service, around.clock)
            self._fetcher = TokenSource(
                upstream.name,
                service.login,
                around.tokens,
                context=login_context,
                on_failure=on_no_token,
                on_token=on_token,
            )
            return
        ses = SesService(service, around.clock)
        self._service, self._token = ses, ses.token
        if isinstance(service.credentials, WebIdentity):
            self._fetcher = StsKeys(
                upstream.name,
                service.credentials,
                around.tokens,
                context=context,
                on_failure=on_no_token,
                on_token=on_token,
            )

    def serves(self, upstream: Upstream, null_sender: str) -> bool:
        """Whether these settings say nothing new about how to reach the upstream, or about what its
        answers mean.
        """
        before = self._upstream
        return (upstream.settings, upstream.replies, upstream.attribution) == (
            before.settings,
            before.replies,
            before.attribution,
        ) and (upstream.connections, null_sender) == (before.connections, self._null_sender)

    @property
    def most_recipients(self) -> int:
        """Of one request."""
        return self._service.most_recipients if self._service is not None else 1

    @property
    def fetches(self) -> bool:
        """Whether there may be newer credentials."""
        return self._fetcher is not None

    async def token(self) -> str | NoToken:
        """Credentials that are usable now, or why there are none."""
        return self._token if self._fetcher is None else await self._fetcher.token()

    def rejected(self, token: str) -> None:
        """The service refuses these."""
        if self._fetcher is not None:
            self._fetcher.rejected(token)

    async def request(self, message: Message, recipients: Sequence[str], token: str) -> Request:
        """See Service.request. A large message is read in a thread, and one beyond ASCII or with
        overlong lines is re-encoded there: the services want mail as RFC 5322 has it.
        """
        if not message.envelope_sender and self._null_sender:
            message = replace(message, envelope_sender=self._null_sender)
        if isinstance(message.body, bytes) and not needs_conversion(message, _SEVEN_BIT):
            return self._made(message, recipients, token)
        return await asyncio.to_thread(self._made, message, recipients, token)

    def _made(self, message: Message, recipients: Sequence[str], token: str) -> Request:
        assert self._service is not None  # without a defect there is one
        if needs_conversion(message, _SEVEN_BIT):
            try:
                message = convert(message, _SEVEN_BIT)
            except SignatureWouldBreak as error:
                # Eight bits alone are what both services take from other servers, too.
                if message.long_lines or message.smtputf8:
                    words = f"{_REENCODED}, and {error}"
                    raise Unfit(Reason.SIGNATURE_WOULD_BREAK, words) from None
            except Unconvertible as error:
                raise Unfit(Reason.CONVERSION_IMPOSSIBLE, f"{_REENCODED}, and {error}") from None
        return self._service.request(message, recipients, token)

    def read(self, answer: Answer, recipient_count: int) -> Verdict:
        """See Service.read."""
        assert self._service is not None
        return self._service.read(answer, recipient_count, self._rules)

    async def probe(self, deadline: float) -> Failure | None:
        """Why nothing can be sent, as far as can be known without a message."""
        token = await self.token()
        if isinstance(token, NoToken):
            return Failure(Stage.TOKEN, token.reason, token.detail)
        try:
            await self.channel.probe(deadline)
        except NotAllowed as error:
            return Failure(Stage.CONNECT, Reason.UPSTREAM_URL_NOT_ALLOWED, str(error))
        except (Unreachable, OSError) as error:
            return Failure(Stage.CONNECT, Reason.UPSTREAM_UNREACHABLE, str(error))
        return None

    def retire(self) -> None:
        """Fetch no more tokens; connections close when their requests end."""
        if self._fetcher is not None:
            self._fetcher.stop()
        if self._service is not None:
            task = asyncio.get_running_loop().create_task(self.channel.close())
            _closing.add(task)
            task.add_done_callback(_closing.discard)

    async def close(self) -> None:
        """End at once."""
        if self._fetcher is not None:
            self._fetcher.stop()
        if self._service is not None:
            await self.channel.close()


#: The loop keeps no reference to tasks.
_closing: set[asyncio.Task[None]] = set()
