"""The operator's settings, read once from the environment. No other module reads it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mailrelay_operator.api.oauth2 import FORBIDDEN_AUDIENCES
from mailrelay_operator.api.surroundings import DEFAULT_USER

_LEVELS = ("debug", "info", "warning", "error")
_POLICIES = ("Always", "IfNotPresent", "Never")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PROXY = re.compile(r"http://[A-Za-z0-9.:\[\]-]{1,253}:[0-9]{1,5}/?")
_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


class SettingsUnusable(ValueError):
    """An invalid environment variable: its name, its value, and what to do."""

    def __init__(self, variable: str, seen: str, sentence: str) -> None:
        """Describe the variable and its value."""
        super().__init__(f"{variable}={seen!r}: {sentence}")
        self.variable = variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings. `watch_namespaces` None: the whole cluster; `gateway_user` None: the
    platform chooses one. Port 0: any free port, for tests."""

    gateway_image: str
    gateway_image_pull_policy: str = "IfNotPresent"
    gateway_image_pull_secrets: tuple[str, ...] = ()
    gateway_user: int | None = DEFAULT_USER
    monitoring_namespaces: tuple[str, ...] = ()
    authorities_config_map: str = ""
    rollout_seconds: float = 0.0
    token_audiences: tuple[str, ...] = ()
    allowed_egress: tuple[str, ...] = ()
    egress_proxy: str = ""
    watch_namespaces: tuple[str, ...] | None = None
    namespace: str = "mail-system"
    cluster_domain: str = "cluster.local"
    resync_seconds: float = 240.0
    metrics_port: int = 9090
    probe_host: str = "0.0.0.0"
    probe_port: int = 8080
    log_level: str = "info"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of this environment; raises SettingsUnusable for the first invalid variable."""
    image = environment.get("MAILRELAY_GATEWAY_IMAGE", "")
    if not image or image != image.strip():
        raise SettingsUnusable(
            "MAILRELAY_GATEWAY_IMAGE", image, "set it to the image of the gateway's pods."
        )
    names = _names(environment, "MAILRELAY_WATCH_NAMESPACES", _LABEL)
    return Settings(
        gateway_image=image,
        gateway_image_pull_policy=_one_of(
            environment, "MAILRELAY_GATEWAY_IMAGE_PULL_POLICY", _POLICIES, "IfNotPresent"
        ),
        gateway_image_pull_secrets=_names(
            environment, "MAILRELAY_GATEWAY_IMAGE_PULL_SECRETS", _OBJECT
        ),
        gateway_user=_user(environment, "MAILRELAY_GATEWAY_USER"),
        monitoring_namespaces=_names(environment, "MAILRELAY_MONITORING_NAMESPACES", _LABEL),
        authorities_config_map=environment.get("MAILRELAY_AUTHORITIES_CONFIG_MAP", ""),
        rollout_seconds=_number(environment, "MAILRELAY_ROLLOUT_SECONDS", 0.0, 0.0, 86400.0),
        token_audiences=_audiences(environment, "MAILRELAY_TOKEN_AUDIENCES"),
        allowed_egress=_networks(environment, "MAILRELAY_ALLOWED_EGRESS_CIDRS"),
        egress_proxy=_proxy(environment, "MAILRELAY_EGRESS_PROXY"),
        watch_namespaces=names or None,
        namespace=environment.get("MAILRELAY_NAMESPACE", "") or "mail-system",
        cluster_domain=environment.get("MAILRELAY_CLUSTER_DOMAIN", "").strip(".")
        or "cluster.local",
        resync_seconds=_number(environment, "MAILRELAY_RESYNC_SECONDS", 240.0, 10.0, 3600.0),
        metrics_port=int(_number(environment, "MAILRELAY_METRICS_PORT", 9090, 0, 65535)),
        probe_host=_host(environment, "MAILRELAY_POD_IP"),
        probe_port=int(_number(environment, "MAILRELAY_PROBE_PORT", 8080, 0, 65535)),
        log_level=_one_of(environment, "MAILRELAY_LOG_LEVEL", _LEVELS, "info"),
    )


def _names(
    environment: Mapping[str, str], variable: str, grammar: re.Pattern[str]
) -> tuple[str, ...]:
    text = environment.get(variable, "")
    names = tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    for name in names:
        if not grammar.fullmatch(name):
            what = "a namespace" if grammar is _LABEL else "a Secret"
            raise SettingsUnusable(
                variable,
                text,
                f"{name!r} is not a valid name of {what}; separate several with commas.",
            )
    return names


def _listed(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    text = environment.get(variable, "")
    return tuple(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))


def _audiences(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """Audiences of tokens. With a token for the API server or mailrelay itself the recipient could
    act as the pod, so those are refused."""
    audiences = _listed(environment, variable)
    for audience in audiences:
        if audience.startswith(FORBIDDEN_AUDIENCES):
            raise SettingsUnusable(
                variable,
                audience,
                "must not be an audience of the API server or of mailrelay itself: remove it.",
            )
    return audiences


def _networks(environment: Mapping[str, str], variable: str) -> tuple[str, ...]:
    networks = _listed(environment, variable)
    for text in networks:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise SettingsUnusable(
                variable,
                text,
                "must be a network such as 10.96.0.0/12; separate several with commas.",
            ) from None
        if network.is_loopback or network.is_link_local:
            raise SettingsUnusable(
                variable, text, "loopback and link-local networks are never allowed: remove it."
            )
    return networks


def _proxy(environment: Mapping[str, str], variable: str) -> str:
    text = environment.get(variable, "")
    if text and not _PROXY.fullmatch(text):
        raise SettingsUnusable(variable, text, "must be of the form http://HOST:PORT.")
    return text


def _host(environment: Mapping[str, str], variable: str) -> str:
    """The pod's own address, as in a URL: kopf binds only one address."""
    text = environment.get(variable, "")
    if not text:
        return "0.0.0.0"
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise SettingsUnusable(variable, text, "must be an IP address.") from None
    return f"[{address}]" if address.version == 6 else str(address)


def _user(environment: Mapping[str, str], variable: str) -> int | None:
    """A user ID; DEFAULT_USER if the variable is not set, None if it is `any`."""
    if environment.get(variable, "") == "any":
        return None
    return int(_number(environment, variable, DEFAULT_USER, 1, 2**31 - 1))


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
