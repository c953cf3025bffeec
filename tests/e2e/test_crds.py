"""A real API server takes and refuses what our models do, in the same words.

The CRDs are installed under a group of their own, so that no operator acts on what is made here.
"""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from mailrelay_operator.api.conditions import (
    CONDITION_TYPES,
    Endpoint,
    Verdict,
    initial_conditions,
    set_conditions,
)
from mailrelay_operator.api.maildomain import DnsRecord, MailDomainStatus
from mailrelay_operator.api.mailrelay import (
    ListenerStatus,
    MailRelayStatus,
    QueueStatus,
    StatusAddress,
)
from mailrelay_operator.api.mailsender import MailSenderStatus, Usage
from mailrelay_operator.api.metadata import API_VERSION, VERSION
from mailrelay_operator.api.parsing import InvalidResource, parse
from mailrelay_operator.api.reasons import Reason
from tests.e2e.kubectl import Kubectl
from tests.unit.api.corpus import BAD, CHANGES, GOOD, Bad, Change
from tests.unit.api.documents import (
    NO_LOGIN,
    PLAIN,
    admitting,
    domain,
    listening,
    relay,
    relaying_by,
    sender,
)

ROOT = Path(__file__).resolve().parents[2]
GROUP = "crds-test.mailrelay.dev"
DEADLINE = 30.0  # seconds until a CRD is served


class Server:
    """The API server, as far as these tests ask it: our kinds in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.core = client.CoreV1Api()
        self.custom = client.CustomObjectsApi()
        self.definitions = client.ApiextensionsV1Api()

    def place(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document in our group and namespace."""
        placed = copy.deepcopy(document)
        placed["apiVersion"] = f"{GROUP}/{VERSION}"
        placed["metadata"]["namespace"] = self.namespace
        return placed

    def where(self, document: dict[str, Any]) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, f"{document['kind'].lower()}s"

    def create(self, document: dict[str, Any], *, dry_run: bool = True) -> dict[str, Any]:
        options: dict[str, Any] = {"dry_run": "All"} if dry_run else {}
        created: Any = self.custom.create_namespaced_custom_object(
            *self.where(document), self.place(document), field_validation="Strict", **options
        )
        return dict(created)

    def read(self, document: dict[str, Any]) -> dict[str, Any]:
        found: Any = self.custom.get_namespaced_custom_object(
            *self.where(document), document["metadata"]["name"]
        )
        return dict(found)

    def delete(self, document: dict[str, Any]) -> None:
        self.custom.delete_namespaced_custom_object(
            *self.where(document), document["metadata"]["name"]
        )

    def refusal(self, document: dict[str, Any]) -> str | None:
        """Why the document is refused; None if it is taken."""
        try:
            self.create(document)
        except ApiException as error:
            if error.status not in {400, 422}:
                raise
            return str(json.loads(error.body or "{}")["message"])
        return None


@pytest.fixture(scope="module")
def server(kubectl: Kubectl) -> Iterator[Server]:  # kubectl: refuses other people's clusters
    config.load_kube_config()  # type: ignore[no-untyped-call]
    served = Server(f"crds-{uuid.uuid4().hex[:8]}")
    names = []
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        definition = yaml.safe_load(path.read_text())
        spec = definition["spec"]
        spec["group"] = GROUP
        # So that nobody's `kubectl get mrelay` meets two of them.
        del spec["names"]["shortNames"], spec["names"]["categories"]
        name = definition["metadata"]["name"] = f"{spec['names']['plural']}.{GROUP}"
        _remove_leftover(served, name)
        served.definitions.create_custom_resource_definition(definition)
        names.append(name)
    served.core.create_namespace(
        client.V1Namespace(metadata=client.V1ObjectMeta(name=served.namespace))
    )
    _wait_until_served(served)
    yield served
    served.core.delete_namespace(served.namespace)
    for name in names:
        served.definitions.delete_custom_resource_definition(name)


def _remove_leftover(server: Server, name: str) -> None:
    """Remove a CRD that a run left that was killed."""
    if _is_there(server, name):
        server.definitions.delete_custom_resource_definition(name)
        _wait_for(lambda: not _is_there(server, name), f"{name} to go")


def _is_there(server: Server, name: str) -> bool:
    try:
        server.definitions.read_custom_resource_definition(name)
    except ApiException:
        return False
    return True


def _wait_until_served(server: Server) -> None:
    def served() -> bool:
        try:
            return all(
                server.refusal(document) is None for document in (relay(), sender(), domain())
            )
        except ApiException:
            return False  # 404 until the new kinds are served

    _wait_for(served, "the CRDs to be served")


def _wait_for(holds: Any, what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, f"waited {DEADLINE:.0f} s for {what}"
        time.sleep(0.05)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_resource_is_taken(server: Server, name: str) -> None:
    assert server.refusal(GOOD[name]) is None


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_resource_is_refused_in_the_same_words(server: Server, bad: Bad) -> None:
    refusal = server.refusal(bad.document)
    if bad.stored:
        assert refusal is None  # what the API server can be asked to check is a rule of CEL
        return
    assert refusal is not None
    if not bad.shape:
        assert bad.sentence in refusal


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_is_taken_or_refused_in_the_same_words(server: Server, change: Change) -> None:
    created = server.create(change.old, dry_run=False)
    try:
        new = server.place(change.new)
        new["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"]
        name = new["metadata"]["name"]
        replaced = server.custom.replace_namespaced_custom_object
        if change.sentence is None:
            replaced(*server.where(new), name, new, dry_run="All")
        else:
            with pytest.raises(ApiException) as refusal:
                replaced(*server.where(new), name, new, dry_run="All")
            assert refusal.value.status == 422
            assert change.sentence in json.loads(refusal.value.body or "{}")["message"]
    finally:
        server.delete(change.old)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda p: p.stem)
def test_the_resources_of_an_example_are_taken(server: Server, path: Path) -> None:
    ours = [
        document
        for document in yaml.safe_load_all(path.read_text())
        if document["apiVersion"] == API_VERSION
    ]
    assert ours
    for document in ours:
        applied = server.create(document)
        # What the server fills in changes nothing: our models have the same defaults.
        assert parse(applied | {"apiVersion": API_VERSION}).spec == parse(document).spec


HOSTS = (
    "a", "a.b", "a-b.c", "-a.b", "a-.b", "a..b", ".a", "a.", "a_b.c", "1.2.3.4", "1.2.3.256", "::1",
    "fe80::1%eth0", "::ffff:1.2.3.4", "[::1]", "a b", "ä.example", "A.B", "01.2.3.4", "1::2::3",
    "*", "xn--bcher-kva.example", "2001:DB8::1", "1.2.3", "a\n",
)  # fmt: skip
NETWORKS = (
    "10.0.0.0/8", "10.0.0.0/7", "10.0.0.1/8", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "fd00::/8",
    "fd00::/129", "fd00::1/64", "::/0", "0.0.0.0/0", "10.0.0.0/255.0.0.0", "10.0.0.0/-1", "10/8",
    "::ffff:10.0.0.0/104", "1.2.3.4/32", "fd00:1::/64 ", "2001:db8::/32", "10.0.0.0/ 8", "/8",
)  # fmt: skip
ADDRESSES = (
    "*", "a@example.com", "*@example.com", "a@b", "@example.com", "a@", "a*b@example.com",
    "a b@c.de", "a@b@c.de", "a.b+c@d-e.fg", "ä@example.com", "a@exämple.com", "*@*.example.com",
    "<a@b.de>", "a@example.com.", "a@-b.de", "A_1@B.DE", "a@1.2.3.4", "o'neil@example.com",
    '"a"@example.com', f"{'a' * 64}@b.de", f"{'a' * 65}@b.de", f"a@{'b' * 240}.example", "a@b.c",
    "a\x7f@b.de",
)  # fmt: skip
DURATIONS = (
    "1h", "1h30m", "1.5h", "0h1s", "120h", "1d", "h", "", "00001h", "123456s", "1s1s1s1s1s",
)  # fmt: skip
SIZES = (
    "1Gi", "1.5Gi", "1.1234Gi", "1G", "1e9", "1000000000", "1GiB", "-1Gi", "1 Gi", ".5Gi", "1K",
)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda text: relaying_by(hosts=[{"host": text}]), HOSTS),
        (lambda text: relay(hostname=text), HOSTS),
        (lambda text: listening(proxyProtocol={"trustedCIDRs": [text]}), NETWORKS),
        (
            lambda text: listening(tls=PLAIN, authentication=NO_LOGIN | {"clientCIDRs": [text]}),
            NETWORKS,
        ),
        (lambda text: admitting(addresses=[text]), ADDRESSES),
        (lambda text: sender(**{"from": [text]}), ADDRESSES),
        (lambda text: relay(recipients={"redirectTo": text}), ADDRESSES),
        (lambda text: relay(retry={"giveUpAfter": text}), DURATIONS),
        (lambda text: relay(queue={"storage": {"size": text}}), SIZES),
    ],
    ids=[
        "host",
        "hostname",
        "network",
        "client",
        "admitted",
        "from",
        "redirect",
        "duration",
        "size",
    ],
)
def test_the_server_and_our_parser_agree_on_every_text(
    server: Server, make: Any, texts: tuple[str, ...]
) -> None:
    ours = {text: _refusal_of_ours(make(text)) for text in texts}
    theirs = {text: server.refusal(make(text)) for text in texts}
    differing = {
        text: (ours[text], theirs[text]) for text in texts if bool(ours[text]) != bool(theirs[text])
    }
    assert differing == {}
    assert len({bool(refusal) for refusal in ours.values()}) == 2  # some are taken, some are not


def _refusal_of_ours(document: dict[str, Any]) -> str | None:
    try:
        parse(document)
    except InvalidResource as error:
        return error.sentence
    return None


@pytest.mark.parametrize("document", [relay(), sender(), domain()], ids=lambda d: d["kind"])
def test_a_resource_that_no_operator_has_seen_says_so(
    server: Server, kubectl: Kubectl, document: dict[str, Any]
) -> None:
    server.create(document, dry_run=False)
    try:
        conditions = server.read(document)["status"]["conditions"]
        assert [(one["type"], one["status"], one["reason"]) for one in conditions] == [
            (type_, "Unknown", "Pending") for type_ in CONDITION_TYPES[document["kind"]]
        ]
        kind = f"{document['kind'].lower()}s.{GROUP}"
        shown = kubectl.run("get", kind, "-n", server.namespace).splitlines()
        assert shown[0].split()[:3] == ["NAME", "READY", "REASON"]
        # A MailRelay shows how many pods are ready there, and nobody has counted yet.
        first = ["Pending"] if document["kind"] == "MailRelay" else ["Unknown", "Pending"]
        assert shown[1].split()[: 1 + len(first)] == [document["metadata"]["name"], *first]
    finally:
        server.delete(document)


NOW = datetime(2026, 3, 1, tzinfo=UTC)
READY = {"Ready": Verdict(status="True", reason=Reason.READY, message="Fine.")}


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (
            relay(),
            MailRelayStatus(
                conditions=set_conditions("MailRelay", (), READY, generation=1, now=NOW),
                addresses=(StatusAddress(type="Hostname", value="relay.ns.svc"),),
                listeners=(ListenerStatus(name="submission", attached_senders=2),),
                attached_senders=2,
                observed_generation=1,
                generation_in_force=1,
                ready="1/2",
                endpoint=Endpoint(host="relay.ns.svc", port=465, tls="Implicit"),
                replicas=1,
                ready_replicas=1,
                selector="mailrelay.dev/relay=relay",
                queue=QueueStatus(messages=7, oldest="2026-03-01T00:00:00Z"),
                config_digest="f" * 64,
            ),
        ),
        (
            sender(),
            MailSenderStatus(
                conditions=initial_conditions("MailSender"),
                username="default.sender",
                endpoint=Endpoint(host="relay.default.svc", port=587, tls="StartTLS"),
                observed_generation=1,
                generation_in_force=1,
                secret_name="smtp",
                last_rotated="2026-03-01T00:00:00Z",
                usage=(Usage(unit="Messages", per="1m", used=3, limit=5),),
            ),
        ),
        (
            domain(),
            MailDomainStatus(
                records=(
                    DnsRecord(type="TXT", name="example.com", value="v=spf1 -all", purpose="SPF"),
                ),
            ),
        ),
    ],
    ids=["MailRelay", "MailSender", "MailDomain"],
)
def test_a_status_that_we_write_is_kept_as_it_is(
    server: Server, document: dict[str, Any], status: Any
) -> None:
    server.create(document, dry_run=False)
    try:
        body = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        server.custom.patch_namespaced_custom_object_status(
            *server.where(document),
            document["metadata"]["name"],
            {**server.place(document), "status": body},
            field_manager="crds-test",
            field_validation="Strict",
            force=True,
            _content_type="application/apply-patch+yaml",
        )
        stored = server.read(document)
        assert stored["status"] == body
        assert parse(stored | {"apiVersion": API_VERSION}).status == status
    finally:
        server.delete(document)


def test_a_relay_can_be_scaled(server: Server) -> None:
    document = relay()
    server.create(document, dry_run=False)
    try:
        name = document["metadata"]["name"]
        server.custom.patch_namespaced_custom_object_scale(
            *server.where(document), name, {"spec": {"replicas": 3}}
        )
        assert server.read(document)["spec"]["replicas"] == 3
        with pytest.raises(ApiException, match="greater than or equal to 1"):
            server.custom.patch_namespaced_custom_object_scale(
                *server.where(document), name, {"spec": {"replicas": 0}}
            )
    finally:
        server.delete(document)
