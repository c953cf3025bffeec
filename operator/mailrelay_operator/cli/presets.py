"""What presets set, as `mailrelay check` shows it: one line for each upstream with a provider, with
what the spec does not say itself. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mailrelay_operator.api.expanding import Expanded, expand, preset_of
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.presets import Preset
from mailrelay_operator.api.smarthosts import Smarthost
from mailrelay_operator.api.upstreams import Pace, Upstream


def preset_lines(relay: MailRelay) -> Iterator[str]:
    """A line for each upstream with a provider."""
    for upstream in relay.spec.upstreams:
        preset, smarthost = preset_of(upstream), upstream.smarthost
        if preset is None or smarthost is None:
            continue
        expanded = expand(upstream, replicas=relay.spec.replicas)
        parts = [
            *_of_hosts(smarthost, preset, expanded),
            *_of_bounds(upstream, preset, expanded),
            *_of_habits(upstream, preset, expanded),
        ]
        name = f"{relay.metadata.namespace}/{relay.metadata.name}"
        yield (
            f"MailRelay {name}, upstream {upstream.name}: provider {smarthost.provider} sets"
            f" {'; '.join(parts) or 'nothing that the spec does not say itself'}."
            f" Login: {preset.login}."
        )


def pace_text(pace: Pace) -> str:
    """`30 messages per 1m`."""
    count, unit = (
        (pace.recipients, "recipients") if pace.messages is None else (pace.messages, "messages")
    )
    return f"{count:,} {unit} per {pace.per}"


def thin_paces(relay: MailRelay) -> Iterator[tuple[str, str]]:
    """Path and warning for each pace that has less than a unit for each replica."""
    replicas = relay.spec.replicas
    for upstream in relay.spec.upstreams:
        for pace in upstream.pace:
            if (pace.recipients or pace.messages or 0) < replicas:
                yield (
                    f"spec.upstreams[{upstream.name}].pace[{pace.name}]",
                    f"{pace_text(pace)} is less than one for each of {replicas} replicas: it holds"
                    " on average, but two replicas may send within one period.",
                )


def _of_hosts(smarthost: Smarthost, preset: Preset, expanded: Expanded) -> Iterator[str]:
    if not smarthost.hosts:
        yield "hosts " + ", ".join(f"{one.host}:{one.port}" for one in expanded.hosts)
    if smarthost.tls.mode is None:
        yield f"tls.mode {preset.tls}"


def _of_bounds(upstream: Upstream, preset: Preset, expanded: Expanded) -> Iterator[str]:
    if upstream.max_size is None and preset.max_size is not None:
        yield f"maxSize {preset.max_size:,} octets"
    if upstream.max_recipients is None and preset.max_recipients is not None:
        yield f"maxRecipients {preset.max_recipients}"
    if upstream.connections is None and preset.connections is not None:
        yield f"connections {expanded.connections} for each replica"
    if upstream.messages_per_connection is None and preset.messages_per_connection is not None:
        yield f"messagesPerConnection {preset.messages_per_connection:,}"


def _of_habits(upstream: Upstream, preset: Preset, expanded: Expanded) -> Iterable[str]:
    if not upstream.pace and preset.pace:
        yield "pace " + ", ".join(pace_text(one) for one in expanded.pace)
    if not preset.takes_null_sender:
        yield "no null sender (notices of failed delivery cannot take this way)"
    if preset.control_headers:
        names = ", ".join(f"{one}*" if one.endswith("-") else one for one in preset.control_headers)
        kept = f" but {', '.join(upstream.pass_headers)}" if upstream.pass_headers else ""
        yield f"removal of clients' headers {names}{kept}"
    if preset.replies:
        yield "replies " + ", ".join(one.name for one in preset.replies)
