"""The contract: strict when written, tolerant when read, in both directions of an update."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from mailrelay_gateway.contract import documents, oauth2, status
from mailrelay_gateway.contract.documents import (
    Attribution,
    Certificate,
    HostPort,
    Login,
    Part,
    RelayDocument,
    Sandbox,
    ScryptVerifier,
    Sender,
    SendersDocument,
    UnknownKind,
)
from mailrelay_gateway.contract.files import (
    RELAY_FILE,
    ConfigError,
    _canonical,
    _document_digest,
    encode,
    load,
    share_name,
)
from mailrelay_gateway.contract.status import GatewayStatus, UpstreamState
from tests.models import made

GOLDEN = Path(__file__).parents[2] / "golden" / "contract"

RELAY = made.relay_document(
    relay=made.relay_reference(namespace="mail", name="out", uid="uid-out", generation=3),
    hostname="relay.example.com",
    replicas=2,
    listeners=(
        made.listener(
            name="submission",
            port=587,
            tls=made.listener_tls(certificates=(Certificate(chain="CHAIN", key="KEY"),)),
        ),
        made.listener(
            name="legacy",
            port=2525,
            tls=made.listener_tls(mode="None"),
            authentication=made.listener_authentication(mode="None", client_cidrs=("10.1.0.0/16",)),
        ),
    ),
    upstreams=(
        made.upstream(
            name="out",
            settings=made.smarthost(
                hosts=(HostPort(host="smtp.example.net", port=587),),
                tls=made.upstream_tls(ca="BUNDLE", server_name="mx.example.net"),
                auth=Login(username="u", password="p"),
            ),
            max_size=40_000_000,
            max_recipients=50,
            attribution=(Attribution(header="X-SES-TENANT", template="{namespace}"),),
            control_headers=("X-SES-",),
            pass_headers=("X-SES-MESSAGE-TAGS",),
            pace=(made.pace(name="second", count=14),),
            replies=(
                made.reply_rule(
                    name="busy",
                    stage="end-of-message",
                    code=550,
                    enhanced="5.7.1",
                    text="too many",
                    outcome="Deferred",
                    after=600.0,
                ),
            ),
        ),
        made.upstream(name="box", settings=Sandbox(keep=100)),
    ),
    routes=(
        documents.Route(
            name="news",
            match=documents.RouteMatch(
                sender_domains=("news.example.com",),
                recipient_domains=("*.example.net",),
                namespaces=("marketing",),
            ),
            upstreams=(
                documents.RouteUpstream(name="out", weight=3),
                documents.RouteUpstream(name="box", weight=None),
            ),
        ),
    ),
    limits=made.limits(rates=(made.rate(scope="Sender", count=600, per=60.0, burst=10),)),
    admin_token_sha256="ab" * 32,
)
SENDER = made.sender(
    uid="uid-app",
    namespace="team",
    name="app",
    username="team.app",
    verifiers=(
        made.sha256_verifier(hash="cd" * 32, until="2026-03-01T00:00:00Z"),
        ScryptVerifier(n=1 << 15, r=8, p=1, salt="01" * 16, hash="ef" * 32),
    ),
    addresses=("*@example.com",),
)
SENDERS = SendersDocument(share=5, senders=(SENDER,))


def parts() -> list[type[Part]]:
    """Every model of the contract but UnknownKind."""
    found = [
        model
        for module in (documents, oauth2, status)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Part)
    ]
    return sorted({*found} - {Part, UnknownKind}, key=lambda model: model.__name__)


def as_file(document: Any) -> bytes:
    """A document's JSON as a writer of any version would lay it down."""
    import gzip

    wrapped = {"schema": 1, "digest": _document_digest(document), "document": document}
    return gzip.compress(_canonical(wrapped))


def json_of(document: RelayDocument | SendersDocument) -> dict[str, Any]:
    found: dict[str, Any] = document.model_dump(mode="json", by_alias=True)
    return found


# --- written


@pytest.mark.parametrize("model", parts())
def test_no_field_has_a_default_and_no_other_is_taken(model: type[Part]) -> None:
    for name, field in model.model_fields.items():
        if name == "kind":  # the tag says which model it is, and can say nothing else
            assert field.default in get_args(field.annotation)
        else:
            assert field.is_required(), f"{model.__name__}.{name}: the operator's api decides"
    assert model.model_config["extra"] == "forbid"


MISSPELT: dict[str, Callable[[], object]] = {
    "a field": lambda: made.upstream(name="u", settings=Sandbox(keep=1), conections=3),
    "a field of a part": lambda: made.smarthost(hosts=(), auht=None),
    "a field in a dictionary": lambda: made.upstream(
        name="u", settings={"kind": "sandbox", "keep": 1, "keeep": 2}
    ),
    "a field of the status": lambda: made.gateway_status(acepting=True),
    "the kind of an upstream": lambda: made.upstream(name="u", settings={"kind": "sandbix"}),
    "the kind of a login": lambda: made.smarthost(
        hosts=(HostPort(host="h", port=25),), auth={"kind": "logn", "username": "", "password": ""}
    ),
    "the kind of a verifier": lambda: made.sender(
        uid="1", namespace="n", name="n", username="u", verifiers=({"kind": "md5", "hash": ""},)
    ),
    "a kind by itself": lambda: UnknownKind(kind="mx"),
}


@pytest.mark.parametrize("build", MISSPELT.values(), ids=MISSPELT.keys())
def test_what_is_misspelt_raises_where_it_is_built(build: Callable[[], object]) -> None:
    with pytest.raises(ValidationError):
        build()


@pytest.mark.parametrize(
    ("name", "document"), [("relay", RELAY), ("senders-05", SENDERS)], ids=["relay", "senders"]
)
def test_documents_lie_in_files_as_the_golden_ones(
    name: str, document: RelayDocument | SendersDocument
) -> None:
    text = json.dumps(json_of(document), indent=2, sort_keys=True) + "\n"
    assert text == (GOLDEN / f"{name}.json").read_text()
    assert type(document).read(json.loads(text)) == document


# --- read


def test_a_newer_writers_fields_are_ignored_and_named() -> None:
    newer = json_of(RELAY)
    newer["queue"] = {"priority": 1}
    newer["upstreams"][0]["proxy"] = {"host": "192.0.2.1", "port": 1080}
    newer["upstreams"][0]["settings"]["tls"]["dane"] = "Enforce"
    newer["upstreams"][1]["settings"]["web"] = True
    found = load({RELAY_FILE: as_file(newer)})
    assert found.unknown_fields == (
        "relay: queue",
        "relay: upstreams[0].proxy",
        "relay: upstreams[0].settings.tls.dane",
        "relay: upstreams[1].settings.web",
    )
    assert found.relay.upstreams[0].connections == 10
    assert json_of(found.relay) == json_of(RELAY)


def test_an_upstream_of_an_unknown_kind_is_there_and_named() -> None:
    newer = json_of(RELAY)
    newer["upstreams"][1]["settings"] = {"kind": "mx", "tls": {"dane": "Enforce"}}
    newer["upstreams"][0]["settings"]["auth"] = {"kind": "kerberos", "realm": "EXAMPLE"}
    found = load({RELAY_FILE: as_file(newer)})
    assert [(one.name, one.kind) for one in found.relay.upstreams] == [
        ("out", "smarthost"),
        ("box", "mx"),
    ]
    assert found.unknown_fields == (
        "relay: upstreams[0].settings.auth.kind=kerberos",
        "relay: upstreams[1].settings.kind=mx",
    )
    assert json_of(found.relay) == newer, "an older operator would write it again whole"


def test_a_sender_with_an_unknown_verifier_keeps_it_when_it_is_written_again() -> None:
    newer = json_of(SENDERS)
    newer["senders"][0]["verifiers"].append({"kind": "argon2", "hash": "1f", "lanes": 4})
    files = {RELAY_FILE: encode(RELAY), share_name(5): as_file(newer)}
    (sender,) = load(files).senders
    moved = Sender(**{name: getattr(sender, name) for name in Sender.model_fields})
    assert json_of(SendersDocument(share=5, senders=(moved,))) == newer


def test_a_known_kind_with_a_wrong_field_is_an_error_that_names_it() -> None:
    broken = json_of(RELAY)
    broken["upstreams"][1]["settings"]["keep"] = "all"
    with pytest.raises(ConfigError, match=r"field upstreams\.1\.settings\.sandbox\.keep: "):
        load({RELAY_FILE: as_file(broken)})


def test_a_newer_gateways_status_can_be_read() -> None:
    newer = made.gateway_status(
        upstreams=(made.upstream_status(name="out", state=UpstreamState.UP),)
    ).model_dump(mode="json", by_alias=True)
    newer["upstreams"][0] |= {"state": "Resting", "lanes": 3}
    newer["zone"] = "a"
    found = GatewayStatus.read(newer)
    assert found.upstreams[0].state is UpstreamState.UNKNOWN
    assert found.accepting


def test_every_union_of_kinds_has_room_for_those_that_are_not_known() -> None:
    unions = [documents.Auth, documents.Settings, documents.Verifier, oauth2.Grant]
    for union in unions:
        assert UnknownKind in get_args(get_args(union)[0])


def test_what_is_left_out_is_an_error_to_mypy_too() -> None:
    # If mypy reported it no more, it would call these comments unused.
    with pytest.raises(ValidationError):
        HostPort(host="h")  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        HostPort(host="h", portt=1)  # type: ignore[call-arg]
