"""The environment becomes Settings, or a sentence."""

from __future__ import annotations

import pytest

from mailrelay_operator.settings import Settings, SettingsUnusable, read_settings

IMAGE = {"MAILRELAY_GATEWAY_IMAGE": "gateway:1"}


def test_only_the_image_is_needed() -> None:
    assert read_settings(IMAGE) == Settings(gateway_image="gateway:1")
    empty = {"MAILRELAY_WATCH_NAMESPACES": "", "MAILRELAY_LOG_LEVEL": ""}
    assert read_settings(IMAGE | empty) == Settings(gateway_image="gateway:1")


def test_everything_can_be_said() -> None:
    assert read_settings(
        {
            "MAILRELAY_GATEWAY_IMAGE": "gateway@sha256:0",
            "MAILRELAY_GATEWAY_IMAGE_PULL_POLICY": "Never",
            "MAILRELAY_GATEWAY_IMAGE_PULL_SECRETS": "registry,my.registry",
            "MAILRELAY_GATEWAY_USER": "any",
            "MAILRELAY_MONITORING_NAMESPACES": "monitoring",
            "MAILRELAY_WATCH_NAMESPACES": "mail, team-a,mail",
            "MAILRELAY_NAMESPACE": "operators",
            "MAILRELAY_CLUSTER_DOMAIN": "example.internal.",
            "MAILRELAY_RESYNC_SECONDS": "60",
            "MAILRELAY_METRICS_PORT": "9091",
            "MAILRELAY_POD_IP": "fd00:10::7",
            "MAILRELAY_PROBE_PORT": "0",
            "MAILRELAY_LOG_LEVEL": "debug",
            "MAILRELAY_TOKEN_AUDIENCES": "api://AzureADTokenExchange,sts.amazonaws.com",
            "MAILRELAY_ALLOWED_EGRESS_CIDRS": "10.96.0.0/12, fd00:10::/64",
            "MAILRELAY_EGRESS_PROXY": "http://proxy.corp:3128",
        }
    ) == Settings(
        gateway_image="gateway@sha256:0",
        gateway_image_pull_policy="Never",
        gateway_image_pull_secrets=("registry", "my.registry"),
        gateway_user=None,
        monitoring_namespaces=("monitoring",),
        watch_namespaces=("mail", "team-a"),
        namespace="operators",
        cluster_domain="example.internal",
        resync_seconds=60.0,
        metrics_port=9091,
        probe_host="[fd00:10::7]",
        probe_port=0,
        log_level="debug",
        token_audiences=("api://AzureADTokenExchange", "sts.amazonaws.com"),
        allowed_egress=("10.96.0.0/12", "fd00:10::/64"),
        egress_proxy="http://proxy.corp:3128",
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAILRELAY_GATEWAY_IMAGE", ""),
        ("MAILRELAY_GATEWAY_IMAGE_PULL_POLICY", "Sometimes"),
        ("MAILRELAY_WATCH_NAMESPACES", "mail,Team A"),
        ("MAILRELAY_MONITORING_NAMESPACES", "monitoring.coreos.com"),
        ("MAILRELAY_GATEWAY_IMAGE_PULL_SECRETS", "Registry"),
        ("MAILRELAY_GATEWAY_USER", "0"),
        ("MAILRELAY_POD_IP", "here"),
        ("MAILRELAY_RESYNC_SECONDS", "often"),
        ("MAILRELAY_RESYNC_SECONDS", "nan"),
        ("MAILRELAY_METRICS_PORT", "70000"),
        ("MAILRELAY_LOG_LEVEL", "loud"),
        ("MAILRELAY_TOKEN_AUDIENCES", "mailrelay.dev/queue"),
        ("MAILRELAY_TOKEN_AUDIENCES", "https://kubernetes.default.svc"),
        ("MAILRELAY_ALLOWED_EGRESS_CIDRS", "10.0.0.1/8"),
        ("MAILRELAY_ALLOWED_EGRESS_CIDRS", "127.0.0.0/8"),
        ("MAILRELAY_ALLOWED_EGRESS_CIDRS", "fe80::/64"),
        ("MAILRELAY_EGRESS_PROXY", "https://proxy.corp:3128"),
        ("MAILRELAY_EGRESS_PROXY", "http://user:secret@proxy.corp:3128"),
    ],
)
def test_what_cannot_be_used_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsUnusable, match=variable) as caught:
        read_settings(IMAGE | {variable: value})
    assert caught.value.variable == variable
    assert value in str(caught.value)
