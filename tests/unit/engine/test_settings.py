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
    ],
)
def test_what_cannot_be_used_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsUnusable, match=variable) as caught:
        read_settings(IMAGE | {variable: value})
    assert caught.value.variable == variable
    assert value in str(caught.value)
