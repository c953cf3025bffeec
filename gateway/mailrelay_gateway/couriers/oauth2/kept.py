"""Refresh tokens that an endpoint gave in place of the one that was posted, kept over restarts: a
file for each upstream in the spool's folder, 0600. Called in a thread.

Each is bound to what the configuration gave: with another refresh token, client or endpoint there,
what was kept is worth nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

from mailrelay_gateway.contract.oauth2 import OAuth2, RefreshToken

FOLDER = "oauth2"
#: Octets of a file: a token has 8 KiB at most.
MAX_OCTETS = 32 * 1024


class KeptTokens:
    """The folder. Its methods may raise OSError where something cannot be written."""

    def __init__(self, spool: Path) -> None:
        """Nothing is made before something is kept."""
        self._folder = spool / FOLDER

    def read(self, upstream: str, settings: OAuth2) -> str:
        """The newest refresh token that came of what the configuration gives; empty: none."""
        try:
            with self._path(upstream).open("rb") as file:
                found = json.loads(file.read(MAX_OCTETS))
            if found["binding"] == binding(settings) and isinstance(found["refreshToken"], str):
                return str(found["refreshToken"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none is there, or none that is of use: what the configuration gives is
        return ""

    def keep(self, upstream: str, settings: OAuth2, refresh_token: str) -> None:
        """Write it, durably, before the one that it replaces is forgotten."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(upstream)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        document = {"binding": binding(settings), "refreshToken": refresh_token}
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
        _sync(self._folder)

    def forget(self, upstream: str) -> None:
        """It is worth nothing any more."""
        self._path(upstream).unlink(missing_ok=True)

    def forget_all_but(self, upstreams: Collection[str]) -> None:
        """Of upstreams that are no longer configured nothing stays behind."""
        wanted = {self._path(upstream).stem for upstream in upstreams}
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.stem not in wanted:
                    path.unlink(missing_ok=True)

    def _path(self, upstream: str) -> Path:
        # A name is no path, whatever it may be one day.
        return self._folder / f"{hashlib.sha256(upstream.encode()).hexdigest()[:32]}.json"


def binding(settings: OAuth2) -> str:
    """What a refresh token belongs to: a digest of the one that was given, its client and its
    endpoint.
    """
    grant = settings.grant
    assert isinstance(grant, RefreshToken)
    parts = (settings.token_url, grant.client_id, grant.refresh_token)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
