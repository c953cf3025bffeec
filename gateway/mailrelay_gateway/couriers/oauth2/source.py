"""The access tokens of one upstream from an OAuth2 token endpoint. The other modules of this
package decide; this one acts.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

import structlog

from mailrelay_gateway.contract.oauth2 import Federated, OAuth2, RefreshToken
from mailrelay_gateway.couriers.oauth2.answers import Grant, NoToken, clock_skew, read_answer
from mailrelay_gateway.couriers.oauth2.fetcher import TokenFetcher, TokenSurroundings
from mailrelay_gateway.couriers.oauth2.kept import KeptTokens
from mailrelay_gateway.couriers.oauth2.requests import (
    HEADERS,
    UnusableGrant,
    request_body,
    secrets_of,
)
from mailrelay_gateway.egress.client import Answer, Unreachable
from mailrelay_gateway.egress.rules import NotAllowed
from mailrelay_gateway.reasons import Reason

log = structlog.get_logger()

#: Seconds of clock difference that are not reported.
USUAL_SKEW = 30.0


class TokenSource(TokenFetcher):
    """The access tokens of one upstream. Lives in one event loop; `stop` ends it."""

    def __init__(
        self,
        upstream: str,
        settings: OAuth2,
        around: TokenSurroundings,
        *,
        context: ssl.SSLContext | None,
        on_failure: Callable[[NoToken], None],
        on_token: Callable[[], None],
    ) -> None:
        """As TokenFetcher; `context` replaces the system's CAs for the endpoint."""
        self.settings = settings
        self._context = context
        self._refresh_token = ""  # newer than the configured one
        self._kept_read = False
        self._skew = 0.0  # the endpoint's clock minus the local one
        super().__init__(upstream, around, on_failure=on_failure, on_token=on_token)

    # --- one request

    async def _ask(self) -> Grant | NoToken:
        """Post the grant's request, and read the answer."""
        settings, around = self.settings, self._around
        refresh_token = await self._newest_refresh_token()
        own_token = ""
        if isinstance(settings.grant, Federated):
            found = await self._own_token(settings.grant.audience)
            if isinstance(found, NoToken):
                return found
            own_token = found
        now = around.clock() + self._skew
        try:
            # In a thread, since it loads a key and signs.
            body = await self._in_thread(
                lambda: request_body(
                    settings, now=now, refresh_token=refresh_token, own_token=own_token
                )
            )
            answer = await around.egress.post(
                settings.token_url, body, headers=HEADERS, tls=self._context
            )
        except UnusableGrant as error:
            return NoToken(reason=Reason.UPSTREAM_TOKEN_REFUSED, detail=str(error))
        except NotAllowed as error:
            return NoToken(
                reason=Reason.UPSTREAM_TOKEN_URL_NOT_ALLOWED, detail=f"token endpoint: {error}"
            )
        except Unreachable as error:
            return NoToken(
                reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE, detail=f"token endpoint {error}"
            )
        return await self._read(answer, refresh_token, own_token)

    async def _read(self, answer: Answer, refresh_token: str, own_token: str) -> Grant | NoToken:
        settings = self.settings
        secrets = secrets_of(settings, refresh_token, own_token)
        found = read_answer(answer.status, answer.headers, answer.body, secrets=secrets)
        skew = clock_skew(answer.headers, self._around.clock())
        # Assertions use the endpoint's clock.
        self._learnt = abs(skew - self._skew) > USUAL_SKEW
        self._skew = skew if abs(skew) > USUAL_SKEW else 0.0
        if isinstance(found, Grant):
            if isinstance(settings.grant, RefreshToken) and found.refresh_token:
                await self._rotated(found.refresh_token, refresh_token)
            return found
        if refresh_token and found.error == "invalid_grant":
            # The stored one has been revoked or superseded: try the configured one.
            self._refresh_token = ""
            self._learnt = True
            await self._on_disk(lambda kept: kept.forget(self._upstream))
        told = f"token endpoint {found.detail}"
        if self._skew:
            told += f"; its clock differs by {self._skew:+.0f} s"
        return NoToken(reason=found.reason, detail=told, error=found.error, wait=found.wait)

    # --- refresh tokens

    async def _newest_refresh_token(self) -> str:
        """The one that replaced the configured one; empty if none did."""
        if not isinstance(self.settings.grant, RefreshToken):
            return ""
        kept = self._around.kept
        if kept is not None and not self._kept_read:
            self._refresh_token = await self._in_thread(
                lambda: kept.read(self._upstream, self.settings)
            )
            self._kept_read = True
        return self._refresh_token

    async def _rotated(self, fresh: str, posted: str) -> None:
        grant = self.settings.grant
        assert isinstance(grant, RefreshToken)
        if fresh == (posted or grant.refresh_token):
            return
        self._refresh_token = fresh
        await self._on_disk(lambda kept: kept.keep(self._upstream, self.settings, fresh))

    async def _on_disk(self, act: Callable[[KeptTokens], None]) -> None:
        """Write to disk; a failure matters only after a restart, so it is only logged."""
        kept = self._around.kept
        if kept is None:
            return
        try:
            await self._in_thread(lambda: act(kept))
        except OSError as error:
            log.error(
                "oauth_refresh_token_not_kept", upstream=self._upstream, error=str(error.strerror)
            )
