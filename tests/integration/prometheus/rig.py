"""A real gateway and a real Prometheus, both on loopback and in temporary folders."""

from __future__ import annotations

import hashlib
import json
import smtplib
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from mailrelay_gateway.contract.documents import (
    HostPort,
    OnLimit,
    Sandbox,
    Scope,
    TlsMode,
)
from mailrelay_gateway.contract.files import FILE_NAME, encode_files
from mailrelay_gateway.contract.oauth2 import ClientCredentials, OAuth2, SaslMechanism
from tests.models import made
from tests.peers.gateway import certificate
from tests.ports import free_port
from tests.waiting import PATIENCE, wait_until

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
USERNAME, PASSWORD = "team.app", "a password for a test"
#: What the PodMonitor adds to the series in a cluster.
NAMESPACE, RELAY = "mail", "shared"
#: A sender may send this many messages before it is deferred.
BURST = 12


@contextmanager
def process(argv: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is killed at the end."""
    running = subprocess.Popen(argv, **options)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


class Gateway:
    """A gateway process: `port` takes mail, `admin_port` shows metrics."""

    def __init__(self, folder: Path, sink_port: int) -> None:
        self._folder = folder
        self.certificate = certificate()
        listener = made.listener(
            name="submission",
            port=0,
            tls=made.listener_tls(mode=TlsMode.START_TLS, certificates=(self.certificate,)),
        )
        smarthost = made.smarthost(
            hosts=(HostPort(host=LOOPBACK, port=sink_port),),
            tls=made.upstream_tls(mode=TlsMode.NONE),
        )
        # Its endpoint is one that nobody may send the gateway to: there is no token.
        by_token = made.smarthost(
            hosts=(HostPort(host=LOOPBACK, port=sink_port),),
            auth=OAuth2(
                username="robot@example.com",
                mechanism=SaslMechanism.XOAUTH2,
                token_url=f"https://{LOOPBACK}/token",
                ca=None,
                scopes=(),
                grant=ClientCredentials(client_id="client", client_secret="secret"),
            ),
        )
        rate = made.rate(scope=Scope.SENDER, count=1, per=60, burst=BURST, on_limit=OnLimit.DEFER)
        relay = made.relay_document(
            relay=made.relay_reference(namespace=NAMESPACE, name=RELAY),
            hostname="relay.example.com",
            listeners=(listener,),
            upstreams=(
                made.upstream(name="smarthost", settings=smarthost, connections=2),
                made.upstream(name="sandbox", settings=Sandbox(keep=100)),
                made.upstream(name="by-token", settings=by_token),
            ),
            limits=made.limits(rates=(rate,)),
            retry=made.retry(max_interval=600),
        )
        digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
        sender = made.sender(
            uid="1",
            namespace="team",
            name="app",
            username=USERNAME,
            verifiers=(made.sha256_verifier(hash=digest),),
            addresses=("*@example.com",),
        )
        for name, octets in encode_files(relay, [sender]).items():
            path = folder / "config" / name / FILE_NAME
            path.parent.mkdir(parents=True)
            path.write_bytes(octets)
        self.port = self.admin_port = 0

    @contextmanager
    def run(self) -> Iterator[None]:
        """Start it, and wait until it takes mail."""
        argv = [sys.executable, "-m", "mailrelay_gateway", "--require-config"]
        argv += ["--config", str(self._folder / "config"), "--spool", str(self._folder / "spool")]
        argv += ["--bind", LOOPBACK, "--admin", f"{LOOPBACK}:0"]
        log = self._folder / "log"
        with log.open("wb") as out, process(argv, stdout=out):
            wait_until(lambda: self._listens(log), "the gateway")
            yield

    def _listens(self, log: Path) -> bool:
        for line in log.read_text().splitlines(keepends=True):
            told = json.loads(line) if line.endswith("\n") else {}
            if told.get("event") == "listening":
                self.port = told["port"]
            if told.get("event") == "admin_listening":
                self.admin_port = told["port"]
        return bool(self.port and self.admin_port)

    @contextmanager
    def session(self, password: str = PASSWORD) -> Iterator[smtplib.SMTP]:
        """A client that has logged in over STARTTLS."""
        with smtplib.SMTP("localhost", self.port, timeout=PATIENCE) as client:
            client.starttls(context=ssl.create_default_context(cadata=self.certificate.chain))
            client.login(USERNAME, password)
            yield client

    def metric(self, name: str, *labels: str) -> float:
        """The sum of the series that carry these labels (`upstream="smarthost"`)."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.admin_port}/metrics") as answer:
            text = answer.read().decode()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith(f"mailrelay_{name}{{") and all(label in line for label in labels)
        )


class Prometheus:
    """Debian's Prometheus, scraping one target every half second."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()

    @contextmanager
    def run(self, target_port: int) -> Iterator[None]:
        """Start it, and wait until it answers."""
        target = {
            "targets": [f"{LOOPBACK}:{target_port}"],
            "labels": {"namespace": NAMESPACE, "relay": RELAY, "pod": f"{RELAY}-0"},
        }
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
            "scrape_configs": [{"job_name": "gateways", "static_configs": [target]}],
        }
        path = self._folder / "prometheus.json"  # JSON is YAML
        path.write_text(json.dumps(config))
        argv = ["prometheus", f"--config.file={path}", "--log.level=error"]
        argv += [f"--storage.tsdb.path={self._folder / 'data'}"]
        argv += [f"--web.listen-address={LOOPBACK}:{self._port}"]
        with process(argv):
            wait_until(self._is_ready, "Prometheus")
            yield

    def _is_ready(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(self._url("/-/ready"), timeout=1):
            return True
        return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """An instant query: the series, with labels and values; AssertionError if it is wrong."""
        question = urllib.parse.urlencode({"query": expr})
        try:
            with urllib.request.urlopen(self._url(f"/api/v1/query?{question}")) as answer:
                return list(json.load(answer)["data"]["result"])
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expr}: {error.read().decode()}") from None

    def _url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self._port}{path}"


def sum_of(series: list[dict[str, Any]]) -> float:
    """The values of an answer, added up."""
    return sum(float(one["value"][1]) for one in series)
