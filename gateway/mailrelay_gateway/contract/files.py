"""The contract's files: the format of documents on disk, their digests, and reading them. Pure.

The files are `relay` and `senders-00` to `senders-15`. Each is `FILE/v1.json.gz`: gzipped
`{schema, digest, document}`. A reader ignores and reports unknown fields and kinds, refuses a newer
schema, and checks the digest.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from mailrelay_gateway.contract.documents import (
    SCHEMA,
    SENDER_SHARES,
    Document,
    RelayDocument,
    Sender,
    SendersDocument,
    UnknownKind,
)

#: The key in a Secret, and the file's name below its folder.
FILE_NAME = f"v{SCHEMA}.json.gz"
RELAY_FILE = "relay"
#: A Secret's limit is 1 MiB; a share above this is full (the rest is for metadata and a second
#: schema).
MAX_FILE_OCTETS = 900 * 1024
#: Bound on a decompressed file, against damaged or hostile files.
MAX_UNFOLDED_OCTETS = 64 * 1024 * 1024


def share_name(share: int) -> str:
    """The file of one share of the senders: `senders-00` to `senders-15`."""
    return f"senders-{share:02d}"


def share_of(uid: str) -> int:
    """The share of the sender with this UID: stable, and evenly distributed."""
    return hashlib.sha256(uid.encode()).digest()[0] % SENDER_SHARES


def file_names() -> tuple[str, ...]:
    """All files that a configuration may have, the relay's first."""
    return (RELAY_FILE, *(share_name(n) for n in range(SENDER_SHARES)))


class ConfigError(ValueError):
    """An unusable configuration: the file, and a sentence about what to do."""

    def __init__(self, file: str, sentence: str) -> None:
        """Name the file and what is wrong with it."""
        super().__init__(f"{file}: {sentence}")
        self.file = file
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """A whole configuration as loaded: `digest` names it, `file_digests` each of its files, and
    `unknown_fields` what a newer writer meant for newer readers.
    """

    relay: RelayDocument
    senders: tuple[Sender, ...]
    digest: str
    unknown_fields: tuple[str, ...] = ()
    file_digests: Mapping[str, str] = field(default_factory=dict)


def encode(document: Document) -> bytes:
    """One document as the octets of its file; the encoding is deterministic."""
    body = document.model_dump(mode="json", by_alias=True)
    wrapped = {"schema": SCHEMA, "digest": _document_digest(body), "document": body}
    return gzip.compress(_canonical(wrapped), compresslevel=6, mtime=0)


def encode_files(relay: RelayDocument, senders: Iterable[Sender]) -> dict[str, bytes]:
    """A configuration as files by name: `relay` and the shares that have senders, each ordered by
    UID.
    """
    shares: dict[int, list[Sender]] = {}
    for sender in senders:
        shares.setdefault(share_of(sender.uid), []).append(sender)
    files = {RELAY_FILE: encode(relay)}
    for share, members in sorted(shares.items()):
        members.sort(key=lambda sender: sender.uid)
        files[share_name(share)] = encode(SendersDocument(share=share, senders=tuple(members)))
    return files


def digest(files: Mapping[str, bytes]) -> str:
    """The digest of a whole configuration: 64 hex digits over the digests of its files;
    ConfigError as in `load`.
    """
    return total_digest({name: file_digest(name, octets) for name, octets in files.items()})


def file_digest(name: str, octets: bytes) -> str:
    """The digest of one file, as in `/status`; raises ConfigError as `load` does."""
    return str(_unfold(name, octets)["digest"])


def total_digest(file_digests: Mapping[str, str]) -> str:
    """The digest of a whole configuration, from the digests of its files."""
    total = hashlib.sha256()
    for name in sorted(file_digests):
        total.update(f"{name} {file_digests[name]}\n".encode())
    return total.hexdigest()


def load(files: Mapping[str, bytes]) -> GatewayConfig:
    """Read a configuration from its files' octets; raises ConfigError for an unusable file."""
    if RELAY_FILE not in files:
        raise ConfigError(RELAY_FILE, f"is missing; it is the file {RELAY_FILE}/{FILE_NAME}")
    unknown: list[str] = []
    relay: RelayDocument | None = None
    senders: dict[str, Sender] = {}
    digests: dict[str, str] = {}
    for name in sorted(files):
        wrapped = _unfold(name, files[name])
        digests[name] = str(wrapped["digest"])
        model = RelayDocument if name == RELAY_FILE else SendersDocument
        try:
            document = model.read(wrapped["document"])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            raise ConfigError(name, f"field {path}: {first['msg']}") from None
        unknown.extend(f"{name}: {path}" for path in _unknown_paths(document, ""))
        if isinstance(document, RelayDocument):
            relay = document
        else:
            senders.update((sender.uid, sender) for sender in document.senders)
    assert relay is not None  # RELAY_FILE is in files
    return GatewayConfig(
        relay=relay,
        senders=tuple(senders.values()),
        digest=total_digest(digests),
        unknown_fields=tuple(unknown),
        file_digests=digests,
    )


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _document_digest(body: Any) -> str:
    return hashlib.sha256(_canonical(body)).hexdigest()


def _unfold(name: str, octets: bytes) -> dict[str, Any]:
    """The wrapper `{schema, digest, document}` of a file, checked."""
    try:
        folded = zlib.decompressobj(wbits=31)
        text = folded.decompress(octets, MAX_UNFOLDED_OCTETS)
        if not folded.eof:
            raise ConfigError(name, f"is truncated or larger than {MAX_UNFOLDED_OCTETS} octets")
        wrapped = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(name, f"is not gzipped JSON ({error}); write it again") from None
    if not isinstance(wrapped, dict) or not isinstance(wrapped.get("schema"), int):
        raise ConfigError(name, "has no numeric `schema`; it was not written by mailrelay")
    if wrapped["schema"] > SCHEMA:
        raise ConfigError(
            name,
            f"has schema {wrapped['schema']}, but this gateway reads only up to {SCHEMA}:"
            " upgrade the gateway",
        )
    try:
        found = _document_digest(wrapped.get("document"))
    except ValueError:  # a lone surrogate, which mailrelay never writes
        found = ""
    if not found or wrapped.get("digest") != found:
        raise ConfigError(
            name, "does not match its digest: it was changed or damaged after writing"
        )
    return wrapped


def _unknown_paths(part: BaseModel, path: str) -> Iterator[str]:
    """The paths of all fields in the JSON that are not in the models; for an unknown kind, only the
    kind.
    """
    if isinstance(part, UnknownKind):
        yield f"{path}kind={part.kind}"
        return
    for extra in part.model_extra or {}:
        yield f"{path}{extra}"
    for name in type(part).model_fields:
        value = getattr(part, name)
        members = value if isinstance(value, tuple) else (value,)
        for number, member in enumerate(members):
            if isinstance(member, BaseModel):
                label = (
                    f"{to_camel(name)}[{number}]" if isinstance(value, tuple) else to_camel(name)
                )
                yield from _unknown_paths(member, f"{path}{label}.")
