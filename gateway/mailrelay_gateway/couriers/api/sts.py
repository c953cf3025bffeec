"""Temporary AWS keys of one upstream, in exchange for the pod's ServiceAccount token."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from mailrelay_gateway.contract.api_upstreams import WebIdentity
from mailrelay_gateway.couriers.api.aws import read_sts, sts_body
from mailrelay_gateway.couriers.oauth2.answers import Grant, NoToken, clock_skew
from mailrelay_gateway.couriers.oauth2.fetcher import TokenFetcher, TokenSurroundings
from mailrelay_gateway.egress.client import Unreachable
from mailrelay_gateway.egress.rules import NotAllowed
from mailrelay_gateway.reasons import Reason

_HEADERS = {"Accept": "application/xml", "Content-Type": "application/x-www-form-urlencoded"}


class StsKeys(TokenFetcher):
    """Each token is an AwsKeys, packed. Lives in one event loop; `stop` ends it."""

    def __init__(
        self,
        upstream: str,
        settings: WebIdentity,
        around: TokenSurroundings,
        *,
        context: ssl.SSLContext | None,
        on_failure: Callable[[NoToken], None],
        on_token: Callable[[], None],
    ) -> None:
        """As TokenFetcher; `context` replaces the system's CAs for STS."""
        self._settings = settings
        self._context = context
        super().__init__(upstream, around, on_failure=on_failure, on_token=on_token)

    async def _ask(self) -> Grant | NoToken:
        """Show STS the pod's token."""
        settings, around = self._settings, self._around
        token = await self._own_token(settings.audience)
        if isinstance(token, NoToken):
            return token
        try:
            answer = await around.egress.post(
                settings.sts_url,
                sts_body(settings, token, f"mailrelay-{self._upstream}"),
                headers=_HEADERS,
                tls=self._context,
            )
        except NotAllowed as error:
            return NoToken(reason=Reason.UPSTREAM_TOKEN_URL_NOT_ALLOWED, detail=f"STS: {error}")
        except Unreachable as error:
            return NoToken(reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE, detail=f"STS: {error}")
        now = around.clock()
        now += clock_skew(answer.headers, now)
        found = read_sts(answer.status, answer.headers, answer.body, secrets=(token,), now=now)
        if isinstance(found, Grant):
            return found
        return NoToken(
            reason=found.reason,
            detail=f"STS {found.detail}",
            error=found.error,
            wait=found.wait,
        )
