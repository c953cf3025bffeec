"""What the store keeps of thousands of objects that tenants write."""

from __future__ import annotations

from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.engine.store import Store
from tests.models.manifests import mail_sender

FROM = ["billing@example.com", "*@example.org"]


def test_senders_share_what_is_equal_for_all_and_hold_no_address_twice() -> None:
    store = Store()
    store.replace(
        "MailSender",
        None,
        [mail_sender(name, "mail", {"uid": name}, **{"from": FROM}) for name in ("a", "b")],
    )
    one, other = (store.sender("mail", name) for name in ("a", "b"))
    assert one is not None
    assert other is not None
    assert isinstance(one.model, MailSender)
    assert isinstance(other.model, MailSender)
    assert one.model.status is other.model.status
    kept = one.manifest["spec"]["from"]
    assert all(a is b for a, b in zip(one.model.spec.from_, kept, strict=True))


def test_of_a_sender_no_foreign_annotation_is_kept() -> None:
    store = Store()
    annotations = {"example.com/noise": "x", "mailrelay.dev/revoke": "1"}
    store.replace("MailSender", None, [mail_sender("a", "mail", {"annotations": annotations})])
    found = store.sender("mail", "a")
    assert found is not None
    assert found.manifest["metadata"]["annotations"] == {"mailrelay.dev/revoke": "1"}
