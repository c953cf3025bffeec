"""The Secrets that the operator writes. Each has one of mailrelay's own types: an admission policy
allows the operator no others. Pure.
"""

from __future__ import annotations

from urllib.parse import quote

from mailrelay_gateway.contract.files import FILE_NAME
from mailrelay_operator.api.names import (
    ANNOTATION_MINTED,
    ANNOTATION_REVOKE,
    FIELD_MANAGER,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    LABEL_RELAY,
    LABEL_SENDER,
    SECRET_TYPE_ADMIN,
    SECRET_TYPE_BINDING,
    SECRET_TYPE_CA,
    SECRET_TYPE_CONFIG,
    admin_secret_name,
    ca_secret_name,
)
from mailrelay_operator.plan.endpoint import Endpoint
from mailrelay_operator.plan.manifests.metadata import child
from mailrelay_operator.plan.objects import (
    Manifest,
    encoded,
    name_of,
    namespace_of,
    owner_reference,
    uid_of,
    version_of,
)
from mailrelay_operator.plan.ownership import label_value
from mailrelay_operator.plan.remembered import KEY as REMEMBERED_KEY
from mailrelay_operator.plan.succession import Authorities, write_authorities


def config_secret(relay: Manifest, *, name: str, file: bytes | None, remembered: bytes) -> Manifest:
    """One file of the configuration and the operator's own record in it. Without a file the key is
    removed, and with it the file in the pods: the operator has no permission to delete Secrets."""
    data: dict[str, bytes] = {}
    if file is not None:
        data[FILE_NAME] = file
    if remembered:
        data[REMEMBERED_KEY] = remembered
    return child(relay, api_version="v1", kind="Secret", name=name) | {
        "type": SECRET_TYPE_CONFIG,
        "data": encoded(data),
    }


def ca_secret(
    relay: Manifest, authorities: Authorities, *, read: Manifest | None = None
) -> Manifest:
    """The relay's private CAs: created once, applied when another one takes over, never
    mounted in a pod. `read` is the Secret as read: only that version may be overwritten."""
    made = child(relay, api_version="v1", kind="Secret", name=ca_secret_name(name_of(relay)))
    if read is not None:
        made["metadata"] |= {"uid": uid_of(read), "resourceVersion": version_of(read)}
    return made | {"type": SECRET_TYPE_CA, "data": encoded(write_authorities(authorities))}


def admin_secret(relay: Manifest, token: str) -> Manifest:
    """The token of the admin port: created once, never applied."""
    return child(relay, api_version="v1", kind="Secret", name=admin_secret_name(name_of(relay))) | {
        "type": SECRET_TYPE_ADMIN,
        "data": encoded({"token": token.encode()}),
    }


def binding_secret(
    sender: Manifest,
    *,
    name: str,
    relay: str,
    endpoint: Endpoint,
    username: str,
    password: str,
    minted: str,
    revoked: str,
    read: Manifest | None,
) -> Manifest:
    """A client's connection settings, with the keys of the Service Binding specification. It is
    never applied empty, since a pod could mount it. `read` is the Secret as read: its password is
    kept, so only that version may be overwritten."""
    scheme = "smtps" if endpoint.implicit_tls else "smtp"
    login = f"{quote(username, safe='')}:{quote(password, safe='')}"
    data = {
        "type": "smtp",
        "provider": "mailrelay",
        "host": endpoint.host,
        "port": str(endpoint.port),
        "username": username,
        "password": password,
        "tls": "implicit" if endpoint.implicit_tls else "starttls",
        "uri": f"{scheme}://{login}@{endpoint.host}:{endpoint.port}",
    }
    if endpoint.authority:
        data["ca.crt"] = endpoint.authority
    metadata = _binding_metadata(sender, name=name, relay=relay)
    metadata["annotations"] = {ANNOTATION_MINTED: minted}
    if revoked:
        metadata["annotations"][ANNOTATION_REVOKE] = revoked
    if read is not None:
        metadata["uid"] = uid_of(read)
        metadata["resourceVersion"] = version_of(read)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": SECRET_TYPE_BINDING,
        "data": encoded({key: value.encode() for key, value in data.items()}),
    }


def _binding_metadata(sender: Manifest, *, name: str, relay: str) -> Manifest:
    return {
        "name": name,
        "namespace": namespace_of(sender),
        "labels": {
            LABEL_NAME: "mailrelay",
            LABEL_MANAGED_BY: FIELD_MANAGER,
            LABEL_RELAY: relay,
            LABEL_SENDER: label_value(name_of(sender)),
        },
        "ownerReferences": [owner_reference(sender)],
    }
