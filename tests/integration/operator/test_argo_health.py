"""The health check for Argo CD in docs/operations.md, run by Lua 5.1 (as Argo CD's gopher-lua is)
over the statuses that the operator writes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mailrelay_operator.api.conditions import initial_conditions
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.engine.ringing import relay_key
from tests.integration.operator.world import World, relay, sender

Manifest = dict[str, Any]
PAGE = Path(__file__).resolve().parents[3] / "docs/operations.md"
#: Kinds of Argo CD's own; another word would be shown as an error of the check.
WORDS = {"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"}


def script() -> str:
    """As it is in the page, without the YAML around it."""
    block = re.search(
        r"resource\.customizations\.health\.mailrelay\.dev_MailRelay: \|\n(.*?)\n```",
        PAGE.read_text(),
        re.DOTALL,
    )
    assert block is not None
    return "\n".join(line.removeprefix("  ") for line in block[1].splitlines())


def lua(value: Any) -> str:
    """The value as Lua writes it; a null is nothing there."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"[{lua(k)}] = {lua(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "{" + ", ".join(map(lua, value)) + "}"
    if value is None:
        return "nil"
    if isinstance(value, str):
        escaped = "".join(f"\\{octet:03d}" for octet in value.encode())
        return f'"{escaped}"'
    return json.dumps(value)


def health(manifest: Manifest) -> tuple[str, str]:
    """Status and message."""
    program = (
        f"obj = {lua(manifest)}\n"
        f"local health = (function()\n{script()}\nend)()\n"
        'io.write(health.status, "\\n", health.message or "")\n'
    )
    done = subprocess.run(
        ["lua5.1", "-"], input=program, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    status, _, message = done.stdout.partition("\n")
    assert status in WORDS
    return status, message


def seen(world: World, kind: str = "MailRelay", name: str = "out") -> tuple[str, str]:
    found = world.cluster.find(kind, "mail", name)
    assert found is not None
    return health(found)


def test_the_reasons_that_pass_are_reasons() -> None:
    (listed,) = re.findall(r"local passing = \{(.*?)\}", script(), re.DOTALL)
    words = set(re.findall(r"(\w+) = true", listed))
    assert words
    assert words <= {one.value for one in Reason}


@pytest.mark.parametrize("kind", ["MailRelay", "MailSender", "MailDomain"])
def test_what_no_operator_has_seen_is_progressing(kind: str) -> None:
    waiting = [one.model_dump(by_alias=True) for one in initial_conditions(kind)]
    for status in (None, {"conditions": waiting}):
        fresh = {"metadata": {"generation": 1}, "status": status}
        assert health(fresh) == ("Progressing", "Waiting for controller")


async def test_what_is_ready_is_healthy(world: World) -> None:
    world.cluster.put(relay(), sender())
    for _ in range(4):  # the pods start, load, and are asked
        world.doorbell.add(relay_key("mail", "out"))
        await world.look()
        await world.work()
        for kind, name in (("MailRelay", "out"), ("MailSender", "app")):
            assert seen(world, kind, name)[0] in ("Progressing", "Healthy")
        world.kubelet.run()
        world.pass_time(1)
    await world.settle()
    assert seen(world) == ("Healthy", "Ready: Mail can be submitted.")
    assert seen(world, "MailSender", "app")[0] == "Healthy"


async def test_what_reaches_the_gateways_is_progressing(world: World) -> None:
    world.cluster.put(relay())
    await world.settle()
    world.kubelet.slow.add("out-0")
    world.edit("MailRelay", "out", hostname="other.example.com")
    assert seen(world)[0] == "Progressing"
    await world.round()
    assert seen(world)[0] == "Progressing"


async def test_what_is_refused_is_degraded_and_says_why(world: World) -> None:
    world.cluster.put(relay(), sender())
    await world.settle()
    world.edit("MailRelay", "out", replicas=0)
    world.edit("MailSender", "app", "mail", **{"from": []})
    await world.settle()
    for kind, name in (("MailRelay", "out"), ("MailSender", "app")):
        status, message = seen(world, kind, name)
        assert status == "Degraded"
        assert message.startswith("Invalid: Accepted is False: ")


async def test_a_sender_whose_relay_is_not_there_yet_is_degraded(world: World) -> None:
    """As in the page: it does not come by waiting alone."""
    world.cluster.put(sender())
    await world.settle()
    assert seen(world, "MailSender", "app")[0] == "Degraded"


async def test_what_is_suspended_is_suspended(world: World) -> None:
    world.cluster.put(relay(), sender(suspend=True))
    await world.settle()
    assert seen(world, "MailSender", "app")[0] == "Suspended"
