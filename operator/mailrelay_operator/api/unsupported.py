"""Which fields this version supports, and which unsupported ones a resource uses. Pure.

An unsupported field is refused by name (`Accepted=False, Unsupported`), never silently ignored.
ACTING lists all supported fields: a path in it is supported with everything nested in it; a path
with nested paths in it, where those are; any other is unsupported, and counts as used when it
differs from its default. To support a field, add its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from mailrelay_operator.api.limits import LONGEST_RATE_SECONDS
from mailrelay_operator.api.parsing import Resource
from mailrelay_operator.api.shape import camel, entry_labels


def _always(_value: Any) -> bool:
    return True


def _is_rate(per: Any) -> bool:
    return bool(per.seconds <= LONGEST_RATE_SECONDS)


#: By kind: path of a field -> whether a value is supported. `[]` means the entries of a list.
ACTING: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "MailRelay": {
        "spec.replicas": _always,
        "spec.hostname": _always,
        "spec.suspend": _always,
        "spec.listeners[].name": _always,
        "spec.listeners[].port": _always,
        "spec.listeners[].tls.mode": _always,
        "spec.listeners[].tls.certificateRefs": _always,
        "spec.listeners[].authentication": _always,
        "spec.allowedSenders": _always,
        "spec.upstreams[].name": _always,
        "spec.upstreams[].smarthost.provider": _always,
        "spec.upstreams[].smarthost.hosts": _always,
        "spec.upstreams[].smarthost.tls.mode": _always,
        "spec.upstreams[].smarthost.tls.caRef": _always,
        "spec.upstreams[].smarthost.tls.serverName": _always,
        "spec.upstreams[].smarthost.tls.certificateRef": _always,
        "spec.upstreams[].smarthost.auth.basic": _always,
        "spec.upstreams[].smarthost.auth.oauth2": _always,
        "spec.upstreams[].api": _always,
        "spec.upstreams[].sandbox": _always,
        "spec.upstreams[].pace": _always,
        "spec.upstreams[].connections": _always,
        "spec.upstreams[].messagesPerConnection": _always,
        "spec.upstreams[].maxSize": _always,
        "spec.upstreams[].maxRecipients": _always,
        "spec.upstreams[].replies": _always,
        "spec.upstreams[].attribution": _always,
        "spec.upstreams[].passHeaders": _always,
        "spec.routes": _always,
        "spec.limits.message": _always,
        "spec.limits.rates[].name": _always,
        "spec.limits.rates[].scope": _always,
        "spec.limits.rates[].messages": _always,
        "spec.limits.rates[].recipients": _always,
        "spec.limits.rates[].per": _is_rate,  # longer ones are quotas
        "spec.limits.rates[].burst": _always,
        "spec.limits.rates[].onLimit": _always,
        "spec.rewrite.nullSender": _always,
        "spec.retry": _always,
        "spec.queue.storage": _always,
        "spec.queue.ephemeral": _always,
        "spec.service": _always,
        "spec.image": _always,
        "spec.template.imagePullSecrets": _always,
    },
    "MailSender": {
        "spec.relayRef": _always,
        "spec.from": _always,
        "spec.credentials.secretName": _always,
        "spec.credentials.existingSecretRef": _always,
        "spec.suspend": _always,
        "spec.class": _always,
    },
    # The kind as a whole is not supported yet.
    "MailDomain": {},
}


#: What to write where only some values of a field are supported.
_INSTEAD = {
    "spec.limits.rates[].per": f"write at most {LONGEST_RATE_SECONDS:g}s",
}
_ENTRY = re.compile(r"\[[^\]]*\]")


def unsupported_fields(resource: Resource) -> tuple[str, ...]:
    """The paths of all unsupported fields in use, such as `spec.upstreams[ses].pace`; the kind
    itself if it is not supported at all.
    """
    if not ACTING[resource.kind]:
        return (f"kind: {resource.kind}",)
    return tuple(_unsupported(resource.spec, resource.kind, "spec", "spec"))


def unsupported_message(fields: tuple[str, ...]) -> str:
    """One sentence that names all the fields, for the condition and for `mailrelay up`."""
    shown = ", ".join(
        f"{field} ({instead})" if (instead := _instead(field)) else field for field in fields
    )
    gone = [field for field in fields if not _instead(field)]
    remove = f" Remove {'the field' if len(gone) == 1 else 'them'};" if gone else " Until then"
    return (
        f"Not supported in this version: {shown}.{remove} the last accepted spec stays in effect."
    )


def unsupported_remedy(field: str) -> str:
    """What to do about one unsupported field, for a line of its own."""
    instead = _instead(field)
    return f"Not supported in this version: {instead or 'remove it'}."


def _instead(field: str) -> str:
    return _INSTEAD.get(_ENTRY.sub("[]", field), "")


def acts(kind: str, field: str) -> bool | None:
    """Whether a field (`spec.listeners[].port`) is supported: True, False, or None where it depends
    on nested fields or the value.
    """
    table = ACTING[kind]
    parts = field.split(".")
    for length in range(1, len(parts) + 1):
        above = ".".join(parts[:length])
        if above in table or above.removesuffix("[]") in table:
            check = table.get(above) or table[above.removesuffix("[]")]
            return True if check is _always else None
    return None if _has_acting_parts(table, field.removesuffix("[]")) else False


def _has_acting_parts(table: Mapping[str, Any], field: str) -> bool:
    return any(path.startswith((f"{field}.", f"{field}[]")) for path in table)


def _unsupported(model: BaseModel, kind: str, field: str, path: str) -> Iterator[str]:
    """`field` is the path as in ACTING, `path` the same with the names of entries."""
    table = ACTING[kind]
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        at, shown = f"{field}.{camel(name)}", f"{path}.{camel(name)}"
        if at in table:
            if not table[at](value):
                yield shown
        elif not _has_acting_parts(table, at):
            if info.is_required() or value != info.get_default(call_default_factory=True):
                yield shown
        elif isinstance(value, BaseModel):
            yield from _unsupported(value, kind, at, shown)
        elif isinstance(value, tuple):
            for label, entry in zip(entry_labels(model, name, value), value, strict=True):
                yield from _unsupported(entry, kind, f"{at}[]", f"{shown}[{label}]")
