"""Joins an upstream's spec with its provider's preset: what is set explicitly wins, field by field;
lists (hosts, paces) as wholes, but the preset's rules about replies follow the explicit ones. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailrelay_operator.api.presets import PRESETS, Preset, PresetReply
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.replies import ReplyRule
from mailrelay_operator.api.smarthosts import DEFAULT_TLS, HostPort
from mailrelay_operator.api.upstreams import (
    DEFAULT_CONNECTIONS,
    DEFAULT_MESSAGES_PER_CONNECTION,
    Pace,
    Upstream,
)

_NOTHING = Preset(sources=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """An upstream with every field that has a default or a preset. `connections` are those of each
    replica, `max_size` octets; `control_headers` are taken out of clients' messages, but for
    `pass_headers`.
    """

    hosts: tuple[HostPort, ...]
    tls_mode: str
    connections: int
    messages_per_connection: int
    max_size: int | None
    max_recipients: int | None
    pace: tuple[Pace, ...]
    takes_null_sender: bool
    control_headers: tuple[str, ...]
    pass_headers: tuple[str, ...]
    replies: tuple[ReplyRule, ...]
    preset_replies: tuple[PresetReply, ...]


def preset_of(upstream: Upstream) -> Preset | None:
    """The preset that an upstream names."""
    named = upstream.smarthost.provider if upstream.smarthost is not None else None
    return PRESETS[named] if named is not None else None


def expand(upstream: Upstream, *, replicas: int) -> Expanded:
    """The upstream as the gateway needs it. A preset's connections are the account's, so that
    `replicas` share them, each having one at least.
    """
    preset = preset_of(upstream) or _NOTHING
    smarthost = upstream.smarthost
    return Expanded(
        hosts=(smarthost.hosts if smarthost is not None else ())
        or tuple(HostPort(host=host, port=port) for host, port in preset.hosts),
        tls_mode=(smarthost.tls.mode if smarthost is not None else None)
        or (preset.tls if preset is not _NOTHING else DEFAULT_TLS),
        connections=_either(
            upstream.connections,
            None if preset.connections is None else max(1, preset.connections // replicas),
            DEFAULT_CONNECTIONS,
        ),
        messages_per_connection=_either(
            upstream.messages_per_connection,
            preset.messages_per_connection,
            DEFAULT_MESSAGES_PER_CONNECTION,
        ),
        max_size=(
            preset.max_size or _api_size(upstream)
            if upstream.max_size is None
            else upstream.max_size.octets
        ),
        max_recipients=(
            preset.max_recipients if upstream.max_recipients is None else upstream.max_recipients
        ),
        pace=upstream.pace or _paces(preset),
        takes_null_sender=preset.takes_null_sender,
        control_headers=preset.control_headers or _api_control_headers(upstream),
        pass_headers=upstream.pass_headers,
        replies=upstream.replies,
        preset_replies=preset.replies,
    )


def _api_size(upstream: Upstream) -> int | None:
    """What a provider's API takes: of SES 40 MiB, and of Graph 4 MB, in base64."""
    if upstream.api is None:
        return None
    return 30 * 1024 * 1024 if upstream.api.ses is not None else 3 * 1024 * 1024


def _api_control_headers(upstream: Upstream) -> tuple[str, ...]:
    """SES reads the same fields of a raw message in its API as over SMTP."""
    if upstream.api is None or upstream.api.ses is None:
        return ()
    return PRESETS["SES"].control_headers


def _either(explicit: int | None, preset: int | None, default: int) -> int:
    return next(one for one in (explicit, preset, default) if one is not None)


def _paces(preset: Preset) -> tuple[Pace, ...]:
    return tuple(
        Pace(name=f"preset-{number}", per=Duration(one.per), **{one.unit: one.count})
        for number, one in enumerate(preset.pace)
    )
