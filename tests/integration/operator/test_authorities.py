"""The ConfigMap with the CAs of all relays, by which Prometheus verifies the gateways."""

from __future__ import annotations

from mailrelay_operator.engine.authorities import Authorities
from mailrelay_operator.engine.ringing import relay_key
from tests.integration.operator.world import World, relay

EMPTY = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "relay-cas", "namespace": "mail-system"},
}


def keeper(world: World) -> Authorities:
    return Authorities(
        cluster=world.cluster,
        store=world.store,
        memory=world.memory,
        namespace="mail-system",
        name="relay-cas",
        ready=lambda: True,
    )


def bundle(world: World) -> str:
    found = world.cluster.find("ConfigMap", "mail-system", "relay-cas")
    assert found is not None
    return str((found.get("data") or {}).get("ca.crt", ""))


async def test_it_holds_the_ca_of_every_relay_and_is_written_when_that_changes(
    world: World,
) -> None:
    world.cluster.put(EMPTY, relay(), relay("other"))
    await world.settle()
    kept = keeper(world)
    await kept.once()
    for name in ("out", "other"):
        certificate = world.cluster.data("mail", f"{name}-ca")["ca.crt"].strip()
        assert f"# mail/{name}\n{certificate}" in bundle(world)
    assert "PRIVATE KEY" not in bundle(world)
    world.cluster.writes()
    await kept.once()
    await keeper(world).once()
    assert world.cluster.writes() == []
    world.cluster.drop("MailRelay", "mail", "other")
    await world.settle()
    await kept.once()
    assert "mail/other" not in bundle(world)
    assert "mail/out" in bundle(world)


async def test_after_a_start_none_is_dropped_before_every_relay_was_looked_at(
    world: World,
) -> None:
    world.cluster.put(EMPTY, relay(), relay("other"))
    await world.settle()
    await keeper(world).once()
    before = bundle(world)
    world.restart()
    await world.round(relay_key("mail", "out"))
    await keeper(world).once()
    assert bundle(world) == before
