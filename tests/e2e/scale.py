"""What many MailSenders on one relay cost the operator, on a real API server, with a real gateway.

    KUBECONFIG=... .venv/bin/python tests/e2e/scale.py --senders 1000

The operator runs as a process of this machine beside the cluster, so no other one may act on it:
scale its Deployment to 0 before. For each phase: wall time, CPU and memory of the operator, and
the API server's own count of calls by verb. In the middle of each phase one sender is revoked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mailrelay_gateway.contract.files import share_name, share_of
from mailrelay_operator.cluster.kube import Kube, connect
from mailrelay_operator.cluster.port import MAIL_SENDER, NAMESPACE, SECRET, NotFound
from mailrelay_operator.plan.gateway_config import read_back
from mailrelay_operator.plan.objects import secret_data

HERE = "scale"
#: Resources whose calls are counted: those that the operator touches and few others do.
COUNTED = ("secrets", "mailsenders", "mailrelays", "events", "pods", "statefulsets")
_SERIES = re.compile(r"apiserver_request_total\{([^}]*)\} ([0-9.e+]+)")


def relay() -> dict[str, Any]:
    return {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailRelay",
        "metadata": {"name": "out", "namespace": HERE},
        "spec": {
            "hostname": "relay.example.com",
            "upstreams": [{"name": "box", "sandbox": {}}],
            "queue": {"ephemeral": {}},
        },
    }


def sender(name: str, padding: int = 0) -> dict[str, Any]:
    addresses = [f"{name}@example.com"]
    if padding:
        addresses += [f"{n:02d}{name}{'x' * 40}@{'y' * 60}.{'z' * 60}.example" for n in range(63)]
    metadata: dict[str, Any] = {"name": name, "namespace": HERE}
    if padding:
        metadata["annotations"] = {"example.com/noise": "n" * padding}
    return {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailSender",
        "metadata": metadata,
        "spec": {
            "relayRef": {"name": "out"},
            "from": addresses,
            "credentials": {"secretName": f"{name}-smtp"},
        },
    }


class Operator:
    """The process, and what it costs."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {
            **os.environ,
            "MAILRELAY_GATEWAY_IMAGE": "mailrelay-gateway:e2e",
            "MAILRELAY_PROBE_PORT": "18080",
            "MAILRELAY_METRICS_PORT": "19090",
        }
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mailrelay_operator", env=environment, stdout=log, stderr=log
            )

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()

    def cost(self) -> tuple[float, int]:
        """Seconds of CPU, and MiB resident."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        return (int(fields[11]) + int(fields[12])) / ticks, int(
            resident[1]
        ) // 1024 if resident else 0


class Phase:
    """Measures from entering to leaving, and prints a line."""

    def __init__(self, name: str, cluster: Kube, operator: Operator) -> None:
        self._name, self._cluster, self._operator = name, cluster, operator

    async def __aenter__(self) -> Phase:
        self._began = time.monotonic()
        self._calls = await calls(self._cluster)
        self._cpu = self._operator.cost()[0] if self._operator.process else 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        wall = time.monotonic() - self._began
        cpu, resident = self._operator.cost()
        made = await calls(self._cluster) - self._calls
        shown = ", ".join(f"{verb} {count}" for verb, count in sorted(made.items()) if count > 0)
        print(
            f"{self._name:28} {wall:6.1f} s wall  {cpu - self._cpu:6.1f} s CPU  {resident:4d} MiB"
            f"  {shown}",
            flush=True,
        )


async def calls(cluster: Kube) -> Counter[str]:
    """The API server's count of calls, by verb and resource."""
    request = await cluster._client.param_serialize(
        "GET", "/metrics", header_params={"Accept": "text/plain"}, auth_settings=["BearerToken"]
    )
    response = await cluster._client.call_api(*request)
    octets: bytes = await response.read()  # type: ignore[no-untyped-call]
    found: Counter[str] = Counter()
    for labels, value in _SERIES.findall(octets.decode()):
        known = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if known.get("resource") in COUNTED:
            found[f"{known['verb']} {known['resource']}"] += int(float(value))
    return found


async def until(
    holds: Callable[[], Awaitable[bool]], seconds: float, *, every: float = 0.2
) -> float:
    began = time.monotonic()
    while not await holds():
        if time.monotonic() - began > seconds:
            raise SystemExit(f"not within {seconds:g} s")
        await asyncio.sleep(every)
    return time.monotonic() - began


async def in_share(cluster: Kube, uid: str) -> bool:
    """Whether the configuration holds a sender of this UID."""
    name = share_name(share_of(uid))
    try:
        found = await cluster.get(SECRET, HERE, f"out-{name}")
    except NotFound:
        return False
    octets = secret_data(found).get("v1.json.gz")
    config = read_back({name: octets}) if octets else None
    return config is not None and any(one.uid == uid for one in config.senders)


async def revoke(cluster: Kube, name: str) -> None:
    """Delete a sender, and print how long it stays in the configuration."""
    found = await cluster.get(MAIL_SENDER, HERE, name)
    uid = found["metadata"]["uid"]
    await until(lambda: in_share(cluster, uid), 120)
    await cluster.delete(MAIL_SENDER, HERE, name, uid=uid)

    async def gone() -> bool:
        return not await in_share(cluster, uid)

    took = await until(gone, 120)
    print(f"  revoked {name}: {took:.1f} s", flush=True)


async def ready(cluster: Kube, count: int) -> bool:
    found, _ = await cluster.list(MAIL_SENDER, HERE)
    good = sum(
        any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in (each.get("status") or {}).get("conditions") or ()
        )
        for each in found
    )
    return good >= count


async def create_all(cluster: Kube, names: list[str], padding: int) -> None:
    limit = asyncio.Semaphore(16)

    async def one(name: str) -> None:
        async with limit:
            await cluster.create(sender(name, padding))

    await asyncio.gather(*(one(name) for name in names))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--senders", type=int, default=1000)
    parser.add_argument("--padding", type=int, default=0, help="octets of a foreign annotation")
    parser.add_argument("--previews", type=int, default=0, help="one new sender every 2 s, so many")
    parser.add_argument("--log", type=Path, default=Path("/tmp/operator-scale.log"))
    options = parser.parse_args()
    cluster, operator = await connect(), Operator(options.log)
    names = [f"app-{number:05d}" for number in range(options.senders)]
    try:
        await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HERE}})
        await cluster.create(relay())
        await create_all(cluster, names, options.padding)
        await operator.start()
        async with Phase(f"nothing to Ready ({len(names)})", cluster, operator):
            await revoke(cluster, names.pop())
            if not options.padding:
                await until(lambda: ready(cluster, len(names)), 600, every=3.0)
        await asyncio.sleep(20)
        async with Phase("60 s at rest", cluster, operator):
            await asyncio.sleep(60)
        await revoke(cluster, names.pop())
        await operator.stop()
        await operator.start()
        async with Phase("after a restart (60 s)", cluster, operator):
            await revoke(cluster, names.pop())
            await asyncio.sleep(50)
        async with Phase("one new sender", cluster, operator):
            await cluster.create(sender("extra"))
            await until(lambda: ready(cluster, len(names) + 1), 60)
        if options.previews:
            await previews(cluster, options.previews)
    finally:
        await operator.stop()
        found = await cluster.get(NAMESPACE, HERE, HERE)
        await cluster.delete(NAMESPACE, HERE, HERE, uid=found["metadata"]["uid"])
        await cluster.close()


async def previews(cluster: Kube, count: int) -> None:
    """One new MailSender every two seconds; how long each waits for its Secret."""

    async def one(number: int) -> float:
        await asyncio.sleep(2 * number)
        await cluster.create(sender(f"preview-{number}"))

        async def there() -> bool:
            try:
                found = await cluster.get(SECRET, HERE, f"preview-{number}-smtp")
            except NotFound:
                return False
            return "password" in (found.get("data") or {})

        return await until(there, 60)

    waits = sorted(await asyncio.gather(*(one(number) for number in range(count))))
    print(
        f"{count} previews: median {waits[len(waits) // 2]:.1f} s, longest {waits[-1]:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main())
