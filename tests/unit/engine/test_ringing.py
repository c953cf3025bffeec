"""Which keys a change concerns, and how urgently: what may end a permission comes first."""

from __future__ import annotations

import copy

import pytest

from mailrelay_gateway.contract.documents import Sha256Verifier
from mailrelay_operator.engine.backlog import Urgency
from mailrelay_operator.engine.ringing import concerned, urgency_of_login
from mailrelay_operator.engine.store import Change, Store
from mailrelay_operator.plan.facts import SenderLogin
from mailrelay_operator.plan.objects import Manifest
from tests.models.manifests import mail_relay, mail_sender

OLD, NEW, ENDING = (
    Sha256Verifier(hash=64 * "0", until=""),
    Sha256Verifier(hash=64 * "1", until=""),
    Sha256Verifier(hash=64 * "0", until="2026-01-01T00:01:00Z"),
)


def seen(manifest: Manifest, **metadata: object) -> Manifest:
    found = copy.deepcopy(manifest)
    found["metadata"] |= {"uid": "1", "generation": 1, **metadata}
    return found


def rung(old: Manifest | None, new: Manifest | None, store: Store | None = None) -> dict[str, str]:
    either = new or old
    assert either is not None
    change = Change(kind=str(either["kind"]), old=old, new=new)
    return {
        key.kind: urgency.name
        for key, urgency in concerned(change, store if store is not None else Store())
    }


SENDER, RELAY = mail_sender("app", "mail"), mail_relay("out", "mail")
DELETED = "2026-01-01T00:00:00Z"


def test_a_new_object_can_only_gain_a_permission() -> None:
    assert rung(None, seen(SENDER)) == {"MailRelay": "AWAITED", "MailSender": "AWAITED"}
    assert rung(None, seen(RELAY)) == {"MailRelay": "AWAITED"}


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(None, id="deleted"),
        pytest.param(seen(SENDER, generation=2), id="edited"),
        pytest.param(seen(SENDER, uid="2"), id="re-created"),
        pytest.param(seen(SENDER, deletionTimestamp=DELETED), id="being deleted"),
    ],
)
def test_a_changed_sender_may_have_lost_one(new: Manifest | None) -> None:
    assert rung(seen(SENDER), new)["MailRelay"] == "REVOKING"


def test_an_annotation_that_revokes_a_password_is_urgent() -> None:
    revoked = seen(SENDER, annotations={"mailrelay.dev/revoke": "1"})
    assert rung(seen(SENDER), revoked) == {"MailSender": "REVOKING"}


def test_a_changed_relay_may_have_narrowed_what_it_admits() -> None:
    assert rung(seen(RELAY), seen(RELAY, generation=2)) == {"MailRelay": "REVOKING"}
    assert rung(seen(RELAY), None) == {"MailRelay": "REVOKING"}


def test_a_label_that_a_namespace_loses_may_have_been_its_permission() -> None:
    store = Store()
    store.replace("MailSender", None, [seen(SENDER)])
    space = {"kind": "Namespace", "metadata": {"name": "mail"}}
    labelled = seen(space, labels={"mail": "allowed"})
    assert rung(labelled, seen(space), store) == {"MailRelay": "REVOKING"}
    assert rung(labelled, None, store) == {"MailRelay": "REVOKING"}
    assert rung(None, labelled, store) == {"MailRelay": "AWAITED"}


def test_a_status_of_ours_rings_nobody() -> None:
    said = seen(SENDER)
    said["status"] = {"observedGeneration": 1}
    assert rung(seen(SENDER), said) == {}


@pytest.mark.parametrize(
    ("before", "after", "urgency"),
    [
        pytest.param((), (NEW,), Urgency.AWAITED, id="first"),
        pytest.param((OLD,), (NEW, OLD), Urgency.AWAITED, id="one more"),
        pytest.param((OLD,), (NEW,), Urgency.REVOKING, id="replaced"),
        pytest.param((OLD,), (NEW, ENDING), Urgency.REVOKING, id="ends at a time"),
        pytest.param((OLD,), (), Urgency.REVOKING, id="none left"),
    ],
)
def test_a_login_that_lost_a_password_is_urgent(
    before: tuple[Sha256Verifier, ...], after: tuple[Sha256Verifier, ...], urgency: Urgency
) -> None:
    assert urgency_of_login(before, SenderLogin(username="u", verifiers=after)) is urgency
