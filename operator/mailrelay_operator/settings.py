"""The environment, read once, as a frozen Settings. Nothing else in the operator reads the
environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LEVELS = ("debug", "info", "warning", "error")
_POLICIES = ("Always", "IfNotPresent", "Never")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class SettingsUnusable(ValueError):
    """A variable that cannot be used: its name, what was seen, and what to do."""

    def __init__(self, variable: str, seen: str, sentence: str) -> None:
        """Name the variable."""
        super().__init__(f"{variable}={seen!r}: {sentence}")
        self.variable = variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this operator runs. `watch_namespaces` None: the whole cluster. Port 0: any free port,
    for tests."""

    gateway_image: str
    gateway_image_pull_policy: str = "IfNotPresent"
    watch_namespaces: tuple[str, ...] | None = None
    namespace: str = "mailrelay-system"
    cluster_domain: str = "cluster.local"
    resync_seconds: float = 240.0
    metrics_port: int = 9090
    probe_port: int = 8080
    log_level: str = "info"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of this environment; SettingsUnusable names the first variable that is wrong."""
    image = environment.get("MAILRELAY_GATEWAY_IMAGE", "")
    if not image or image != image.strip():
        raise SettingsUnusable(
            "MAILRELAY_GATEWAY_IMAGE", image, "name the image of the gateway's pods."
        )
    names = _names(environment.get("MAILRELAY_WATCH_NAMESPACES", ""))
    return Settings(
        gateway_image=image,
        gateway_image_pull_policy=_one_of(
            environment, "MAILRELAY_GATEWAY_IMAGE_PULL_POLICY", _POLICIES, "IfNotPresent"
        ),
        watch_namespaces=names or None,
        namespace=environment.get("MAILRELAY_NAMESPACE", "") or "mailrelay-system",
        cluster_domain=environment.get("MAILRELAY_CLUSTER_DOMAIN", "").strip(".")
        or "cluster.local",
        resync_seconds=_number(environment, "MAILRELAY_RESYNC_SECONDS", 240.0, 10.0, 3600.0),
        metrics_port=int(_number(environment, "MAILRELAY_METRICS_PORT", 9090, 0, 65535)),
        probe_port=int(_number(environment, "MAILRELAY_PROBE_PORT", 8080, 0, 65535)),
        log_level=_one_of(environment, "MAILRELAY_LOG_LEVEL", _LEVELS, "info"),
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    for name in names:
        if not _LABEL.fullmatch(name):
            raise SettingsUnusable(
                "MAILRELAY_WATCH_NAMESPACES",
                text,
                f"{name!r} is no name of a namespace; separate several by commas.",
            )
    return names


def _one_of(
    environment: Mapping[str, str], variable: str, known: tuple[str, ...], default: str
) -> str:
    seen = environment.get(variable, "") or default
    if seen not in known:
        raise SettingsUnusable(variable, seen, f"must be one of {', '.join(known)}.")
    return seen


def _number(
    environment: Mapping[str, str], variable: str, default: float, least: float, most: float
) -> float:
    seen = environment.get(variable, "")
    try:
        number = float(seen) if seen else default
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise SettingsUnusable(variable, seen, f"must be a number from {least:g} to {most:g}.")
    return number
