"""Without the operator nothing is stuck, and with it back everything goes on."""

from __future__ import annotations

from tests.e2e.conftest import MOUNTED, RELAY_NAMESPACE, TEAM_NAMESPACE, Release, await_binding
from tests.e2e.kubectl import Kubectl, Manifest, eventually
from tests.e2e.mail import Client, Sink, plain_message, token
from tests.e2e.manifests import RELAYS, SENDERS, namespace, relay, sender

DOOMED = "e2e-doomed"


def test_helm_uninstall_leaves_everything_deletable_and_mail_flowing(
    kubectl: Kubectl, release: Release, client: Client, sink: Sink, mail_relay: Manifest
) -> None:
    doomed = relay("doomed", DOOMED, host=sink.host, queue={"ephemeral": {}})
    kubectl.apply(namespace(DOOMED, mail="allowed"))
    kubectl.apply(doomed, sender("doomed", DOOMED, relay=doomed))
    await_binding(kubectl, "doomed-smtp", DOOMED, deadline=120)
    release.uninstall()
    try:
        # The CRDs stayed, with everything in them; the gateways go on.
        assert kubectl.get(RELAYS, "relay", RELAY_NAMESPACE)
        word = token()
        assert client.send(MOUNTED, plain_message(word)).is_clean
        sink.await_message(word)
        # Nobody is asked: no finalizer, no webhook.
        kubectl.delete(SENDERS, "doomed", DOOMED, deadline=15)
        kubectl.delete(RELAYS, "doomed", DOOMED, deadline=15)
        eventually(
            lambda: kubectl.items("pods,secrets,statefulsets", DOOMED) == [],
            deadline=60,
            what="the children went with their owners",
        )
        kubectl.delete("namespace", DOOMED, deadline=60)
    finally:
        release.install()
    kubectl.apply(sender("after", TEAM_NAMESPACE, relay=mail_relay))
    try:
        binding = await_binding(kubectl, "after-smtp", TEAM_NAMESPACE, deadline=60)
        assert client.login_code(binding) == 235
    finally:
        kubectl.delete(SENDERS, "after", TEAM_NAMESPACE)
