"""What many MailRelays and MailSenders cost the operator, on a real API server.

    make scale ARGS="--senders 1000 --previews 150"         one relay, a real gateway
    make scale ARGS="--relays 200 --senders 5 --played"     so many MailSenders on each relay
    make scale ARGS="--senders 5000 --hostile --played"     all of them as large as may be
    make scale ARGS="--senders 20 --outage 1800 --played"   half an hour without the API server
    make scale ARGS="--senders 40 --disturbed 200"          changes beside tenants in trouble

KUBECONFIG says which cluster. The operator runs as a process of this machine beside the cluster, so
no other one may act on it: scale its Deployment to 0 before. `--played` answers for all gateways
from this process; no node may take their pods then (kubectl cordon). For each phase: wall time, CPU
and memory of the operator, the API server's own count of calls by verb, and the operator's rounds.
In the middle of each phase one sender is revoked.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mailrelay_gateway.contract.files import share_name, share_of
from mailrelay_operator.cluster.kube import Kube, connect
from mailrelay_operator.cluster.port import MAIL_SENDER, NAMESPACE, SECRET, NotFound
from mailrelay_operator.plan.gateway_config import read_back
from mailrelay_operator.plan.objects import name_of, secret_data
from tests.e2e.scale.costs import CONTROL_PLANE, cpu_of, revision, rounds
from tests.e2e.scale.disturbed import disturbed
from tests.e2e.scale.gateways import PlayedGateways
from tests.e2e.scale.objects import (
    HERE,
    TOGETHER,
    create_all,
    ready,
    relay,
    sender,
    space,
    until,
)
from tests.e2e.scale.outage import Proxy, is_alive, kubeconfig

PROBE_PORT, METRICS_PORT = 18080, 19090
#: Resources whose calls are counted: those that the operator touches and few others do.
COUNTED = ("secrets", "mailsenders", "mailrelays", "events", "pods", "statefulsets")
_SERIES = re.compile(r"apiserver_request_total\{([^}]*)\} ([0-9.e+]+)")


class Operator:
    """The process, and what it costs."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, **more: str) -> None:
        environment = {
            **os.environ,
            **more,
            "MAILRELAY_GATEWAY_IMAGE": "mailrelay-gateway:e2e",
            "MAILRELAY_PROBE_PORT": str(PROBE_PORT),
            "MAILRELAY_METRICS_PORT": str(METRICS_PORT),
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
        self._others = cpu_of(CONTROL_PLANE)
        self._rounds = await rounds(METRICS_PORT)
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
        others = cpu_of(CONTROL_PLANE) - self._others
        done = await rounds(METRICS_PORT) - self._rounds
        counted = ", ".join(f"{kind} {count}" for kind, count in sorted(done.items()))
        print(f"  beside it {others:.1f} s CPU of the control plane; rounds: {counted}", flush=True)


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


async def in_share(cluster: Kube, uid: str, relay: str = "out") -> bool:
    """Whether the configuration holds a sender of this UID."""
    name = share_name(share_of(uid))
    try:
        found = await cluster.get(SECRET, HERE, f"{relay}-{name}")
    except NotFound:
        return False
    octets = secret_data(found).get("v1.json.gz")
    config = read_back({name: octets}) if octets else None
    return config is not None and any(one.uid == uid for one in config.senders)


async def revoke(cluster: Kube, name: str) -> None:
    """Delete a sender, and print how long it stays in the configuration."""
    found = await cluster.get(MAIL_SENDER, HERE, name)
    uid, relay = found["metadata"]["uid"], found["spec"]["relayRef"]["name"]
    await until(lambda: in_share(cluster, uid, relay), 600)
    await cluster.delete(MAIL_SENDER, HERE, name, uid=uid)

    async def gone() -> bool:
        return not await in_share(cluster, uid, relay)

    took = await until(gone, 120)
    print(f"  revoked {name}: {took:.1f} s", flush=True)


async def make(cluster: Kube, options: argparse.Namespace) -> list[str]:
    """Everything that is there before the operator starts; returns the names of the senders."""
    spaces = [HERE]
    spec: dict[str, Any] = {}
    if options.hostile or options.disturbed:
        every = {"name": "all", "namespaces": {"from": "All"}, "addresses": ["*"]}
        spec["allowedSenders"] = [every]
    if options.hostile:
        spaces += [f"{HERE}-{n}" for n in range(-(-options.senders // TOGETHER))]
    await create_all(cluster, map(space, spaces))
    relays = [f"out-{n}" for n in range(options.relays)] if options.relays > 1 else ["out"]
    await create_all(cluster, (relay(name, **spec) for name in relays))
    found = {
        f"app-{n:05d}": relays[n // options.senders] for n in range(options.senders * len(relays))
    }
    await create_all(
        cluster,
        (
            sender(
                name,
                relay=relay,
                hostile=options.hostile,
                namespace=spaces[1 + n // TOGETHER] if options.hostile else HERE,
            )
            for n, (name, relay) in enumerate(found.items())
        ),
    )
    return list(found)


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--relays", type=int, default=1)
    parser.add_argument("--senders", type=int, default=1000, help="of each relay")
    parser.add_argument("--hostile", action="store_true", help="long addresses and annotations")
    parser.add_argument("--played", action="store_true", help="answer for the gateways ourselves")
    parser.add_argument("--previews", type=int, default=0, help="one new sender every 2 s, so many")
    parser.add_argument("--outage", type=float, default=0, help="seconds without the API server")
    parser.add_argument("--disturbed", type=int, default=0, help="changes measured, twice")
    parser.add_argument("--webhook", choices=("refusing", "hanging"), default="refusing")
    parser.add_argument("--log", type=Path, default=Path("/tmp/operator-scale.log"))
    options = parser.parse_args()
    cluster, operator = await connect(), Operator(options.log)
    print(f"{' '.join(sys.argv[1:])}: {revision()}, load {os.getloadavg()[0]:.1f}", flush=True)
    played = asyncio.create_task(PlayedGateways(cluster).run()) if options.played else None
    try:
        names = await make(cluster, options)
        if options.outage:
            await outage(cluster, operator, options.outage)
        elif options.disturbed:
            await operator.start()
            await disturbed(cluster, names, options.disturbed, webhook=options.webhook)
        elif options.hostile:
            await hostile(cluster, operator, len(names))
        else:
            await phases(cluster, operator, names, options.previews)
    finally:
        if played is not None:
            played.cancel()
        await operator.stop()
        for found in (await cluster.list(NAMESPACE, None))[0]:
            name = name_of(found)
            if name == HERE or name.startswith(f"{HERE}-"):
                await cluster.delete(NAMESPACE, name, name, uid=found["metadata"]["uid"])
        await cluster.close()


async def phases(cluster: Kube, operator: Operator, names: list[str], count: int) -> None:
    """From nothing to Ready, at rest, after a restart, and one more."""
    await operator.start()
    async with Phase(f"nothing to Ready ({len(names)})", cluster, operator):
        await revoke(cluster, names.pop())
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
    found = await cluster.get(MAIL_SENDER, HERE, names[-1])
    async with Phase("one new sender", cluster, operator):
        await cluster.create(sender("extra", relay=found["spec"]["relayRef"]["name"]))
        await until(lambda: ready(cluster, len(names) + 1), 60)
    if count:
        await previews(cluster, count)


async def hostile(cluster: Kube, operator: Operator, count: int) -> None:
    """Nobody can be served all of it; everybody is told, and the operator's memory is bounded."""
    await operator.start()

    async def told() -> bool:
        found, _ = await cluster.list(MAIL_SENDER, None)
        known = [one for one in found if (one.get("status") or {}).get("observedGeneration")]
        return len(known) >= count

    async with Phase(f"{count} are told", cluster, operator):
        await until(told, 900, every=10.0)
    async with Phase("60 s at rest", cluster, operator):
        await asyncio.sleep(60)


async def outage(cluster: Kube, operator: Operator, seconds: float) -> None:
    """The API server is away for so long, for the operator; we change things meanwhile."""
    proxy = Proxy(kubeconfig())
    await proxy.open()
    with tempfile.TemporaryDirectory() as folder:
        proxy.write_kubeconfig(path := Path(folder) / "kubeconfig")
        await operator.start(KUBECONFIG=str(path))
        before, _ = await cluster.list(MAIL_SENDER, HERE)
        await until(lambda: ready(cluster, len(before)), 120)
        process = operator.process
        began = time.monotonic()
        proxy.silence()
        gone, *rest = before
        uid = gone["metadata"]["uid"]
        await cluster.delete(MAIL_SENDER, HERE, name_of(gone), uid=uid)
        await create_all(cluster, (sender(f"meanwhile-{n}") for n in range(20)))
        failed = 0
        while (passed := time.monotonic() - began) < seconds:
            if passed > seconds / 2:
                proxy.cut()
            failed = 0 if await is_alive(PROBE_PORT) else failed + 1
            ended = process is None or process.returncode is not None
            if ended or failed >= 3:  # what the chart's probe gives it
                raise SystemExit(f"the pod would be restarted after {passed:.0f} s")
            await asyncio.sleep(10)
        cpu, resident = operator.cost()
        proxy.cut()
        await proxy.open()
        back = time.monotonic()
        print(f"away for {seconds:g} s: alive all the time, {resident} MiB", flush=True)

        async def taken_away() -> bool:
            return not await in_share(cluster, uid)

        print(f"  revoked meanwhile: {await until(taken_away, 60):.1f} s after", flush=True)
        await until(lambda: ready(cluster, len(rest) + 20), 60)
        took = time.monotonic() - back
        spent = operator.cost()[0] - cpu
        print(f"  all converged: {took:.1f} s after, {spent:.1f} s CPU", flush=True)
        await operator.stop()
        proxy.cut()


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
