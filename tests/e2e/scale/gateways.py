"""Gateways that are played: one process answers for as many pods as there are, each on a loopback
address of its own, where no node runs them.

A pod that is bound to no node is said to be ready once its relay's configuration can be read; it
takes a newer one when its annotations change, as a kubelet does, and answers /status over TLS.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from mailrelay_gateway.contract.files import FILE_NAME, file_digest, total_digest
from mailrelay_operator.api import names
from mailrelay_operator.cluster.kube import Kube
from mailrelay_operator.cluster.port import POD, SECRET, ClusterError
from mailrelay_operator.cluster.reflector import Reflector
from mailrelay_operator.engine.watching import OURS
from mailrelay_operator.plan.gateway_config import token_hash
from mailrelay_operator.plan.objects import Manifest, labels_of, name_of, namespace_of, secret_data
from tests.models import made

PORT = 8025
#: Seconds: a stamped pod looks for what its stamp says for so long, in case our watch is behind.
LOOKS = 5.0


class _Gateway:
    """One pod: what it runs, and its server."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, str] = {}
        self.token = ""
        self.server: asyncio.Server | None = None
        self.loading: asyncio.Task[None] | None = None

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                given = head.decode().partition("Bearer ")[2].partition("\r\n")[0]
                ours = token_hash(given) == self.token
                status = made.gateway_status(
                    version="played",
                    digest=total_digest(self.files),
                    files=self.files,
                    started_at="2026-01-01T00:00:00Z",
                )
                body = status.model_dump_json(by_alias=True).encode() if ours else b""
                first = "200 OK" if ours else "403 Forbidden"
                writer.write(
                    f"HTTP/1.1 {first}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


class PlayedGateways:
    """The sink of two reflectors: the pods, and the Secrets of their configuration."""

    def __init__(self, cluster: Kube) -> None:
        self._cluster = cluster
        self._secrets: dict[tuple[str, str], bytes] = {}
        self._gateways: dict[str, _Gateway] = {}
        self._seen: dict[str, object] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0

    async def run(self) -> None:
        """Play until cancelled."""
        managed = {names.LABEL_MANAGED_BY: names.FIELD_MANAGER, names.LABEL_NAME: names.APP_NAME}
        async with asyncio.TaskGroup() as group:
            for kind, labels in ((SECRET, managed), (POD, OURS)):
                reflector = Reflector(
                    cluster=self._cluster,
                    sink=self,
                    kind=kind,
                    namespace=None,
                    labels=labels,
                    rng=random.Random(),
                    beat=lambda _: None,
                )
                group.create_task(reflector.run())

    def replaced(self, kind: str, namespace: str | None, objects: Iterable[Manifest]) -> None:
        for one in objects:
            self.changed(kind, one)

    def removed(self, kind: str, found: Manifest) -> None:
        if kind == "Pod":
            gateway = self._gateways.pop(found["metadata"]["uid"], None)
            if gateway is not None and gateway.server is not None:
                gateway.server.close()
        else:
            self._secrets.pop((namespace_of(found), name_of(found)), None)

    def changed(self, kind: str, found: Manifest) -> None:
        if kind == "Secret":
            octets = secret_data(found).get(FILE_NAME)
            key = namespace_of(found), name_of(found)
            if octets:
                self._secrets[key] = octets
            else:
                self._secrets.pop(key, None)
            return
        if found["spec"].get("nodeName") or found["metadata"].get("deletionTimestamp"):
            return
        uid = found["metadata"]["uid"]
        annotations = found["metadata"].get("annotations")
        if uid in self._gateways and self._seen.get(uid) == annotations:
            return
        self._seen[uid] = annotations
        gateway = self._gateways.get(uid)
        if gateway is None:
            self._count += 1
            address = f"127.{7 + self._count // 62500}.{self._count // 250 % 250}"
            gateway = self._gateways[uid] = _Gateway(f"{address}.{1 + self._count % 250}")
        if gateway.loading is not None:
            gateway.loading.cancel()
        gateway.loading = asyncio.create_task(self._load(gateway, found))
        self._tasks.add(gateway.loading)
        gateway.loading.add_done_callback(self._tasks.discard)

    async def _load(self, gateway: _Gateway, pod: Manifest) -> None:
        relay, where = labels_of(pod)[names.LABEL_RELAY], namespace_of(pod)
        wanted = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_DIGEST)
        loop = asyncio.get_running_loop()
        until = loop.time() + LOOKS
        while True:
            files = {
                file: octets
                for file, secret in names.config_secret_names(relay).items()
                if (octets := self._secrets.get((where, secret))) is not None
            }
            digests = {file: file_digest(file, octets) for file, octets in files.items()}
            ours = "relay" in files and (not wanted or total_digest(digests) == wanted)
            if ours or (loop.time() > until and "relay" in files):
                break
            await asyncio.sleep(0.05)
        document = json.loads(zlib.decompress(files["relay"], wbits=31))["document"]
        gateway.token, gateway.files = document["adminTokenSha256"], digests
        if gateway.server is None:
            gateway.server = await asyncio.start_server(
                gateway.answer,
                gateway.address,
                PORT,
                ssl=_context(document["adminCertificate"]),
                backlog=16,
            )
            await self._say_ready(gateway, pod)

    async def _say_ready(self, gateway: _Gateway, pod: Manifest) -> None:
        conditions = [
            {"type": one, "status": "True"} for one in ("PodScheduled", "ContainersReady", "Ready")
        ]
        status = {
            "phase": "Running",
            "podIP": gateway.address,
            "podIPs": [{"ip": gateway.address}],
            "conditions": conditions,
        }
        try:
            where, name = namespace_of(pod), f"{name_of(pod)}/status"
            await self._cluster.merge(POD, where, name, {"status": status})
        except ClusterError as error:
            print(f"a played pod could not be made ready: {error}", flush=True)


def _context(certificate: Manifest) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        chain, key = Path(folder) / "chain", Path(folder) / "key"
        chain.write_text(certificate["chain"])
        key.write_text(certificate["key"])
        context.load_cert_chain(chain, key)
    return context
