"""Persists refresh tokens that replaced the configured one: one file per upstream in the spool's
folder, 0600. Called in a thread.

Each is bound to the configuration: with another refresh token, client or endpoint it is invalid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from mailrelay_gateway.contract.oauth2 import OAuth2, RefreshToken
from mailrelay_gateway.durable import write_durably

FOLDER = "oauth2"
#: Octets of a file: a token has 8 KiB at most.
MAX_OCTETS = 32 * 1024


class KeptTokens:
    """The folder. Methods that write may raise OSError."""

    def __init__(self, spool: Path) -> None:
        """Creates nothing until the first token is stored."""
        self._folder = spool / FOLDER

    def read(self, upstream: str, settings: OAuth2) -> str:
        """The newest refresh token derived from the configured one; empty if there is none."""
        try:
            with self._path(upstream).open("rb") as file:
                found = json.loads(file.read(MAX_OCTETS))
            if found["binding"] == binding(settings) and isinstance(found["refreshToken"], str):
                return str(found["refreshToken"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # missing or unusable: the configured one is used
        return ""

    def keep(self, upstream: str, settings: OAuth2, refresh_token: str) -> None:
        """Write it durably, before the one that it replaces is discarded."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        document = {"binding": binding(settings), "refreshToken": refresh_token}
        write_durably(self._path(upstream), json.dumps(document), mode=0o600)

    def forget(self, upstream: str) -> None:
        """Remove an invalid token."""
        self._path(upstream).unlink(missing_ok=True)

    def forget_all_but(self, upstreams: Collection[str]) -> None:
        """Remove the tokens of upstreams that are no longer configured."""
        wanted = {_stem(self._path(upstream)) for upstream in upstreams}
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if _stem(path) not in wanted:
                    path.unlink(missing_ok=True)

    def _path(self, upstream: str) -> Path:
        # Never use a name as a path.
        return self._folder / f"{hashlib.sha256(upstream.encode()).hexdigest()[:32]}.json"


def _stem(path: Path) -> str:
    """The upstream's part of the name, also of a file that is still being written."""
    return path.name.partition(".")[0]


def binding(settings: OAuth2) -> str:
    """What a refresh token is bound to: a digest of the configured one, its client and its
    endpoint.
    """
    grant = settings.grant
    assert isinstance(grant, RefreshToken)
    parts = (settings.token_url, grant.client_id, grant.refresh_token)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
