"""Each file of admin/ that has endpoints joins them to the list; what needs no token is named."""

from __future__ import annotations

import importlib
import pkgutil

from mailrelay_gateway import admin
from mailrelay_gateway.admin.endpoints import ENDPOINTS, index


def test_no_file_s_endpoints_are_forgotten() -> None:
    found: set[tuple[str, str]] = set()
    for module in pkgutil.iter_modules(admin.__path__):
        loaded = importlib.import_module(f"{admin.__name__}.{module.name}")
        found |= {(one.method, one.path) for one in getattr(loaded, "ENDPOINTS", ())}
    listed = [(one.method, one.path) for one in ENDPOINTS]
    assert sorted(listed) == sorted(found)


def test_what_needs_no_token() -> None:
    assert {one.path for one in ENDPOINTS if one.is_open} == {"/metrics", "/livez", "/readyz"}


def test_the_first_page_shows_them() -> None:
    assert (
        index()
        == """\
mailrelay gateway, admin port

/metrics                   metrics for Prometheus
/livez                     liveness probe
/readyz                    readiness probe

With the relay's token (Authorization: Bearer TOKEN):

/status                    queue, listeners and upstreams; also: mailrelay status
/sandbox/messages          captured mail; also: mailrelay inbox list
/sandbox/messages/ID       one message; also: mailrelay inbox show ID
/sandbox/messages/ID/raw   the raw message
"""
    )
