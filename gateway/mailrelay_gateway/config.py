"""GatewayConfig: the contract between control plane and data plane, as versioned JSON.

The operator writes it, we read it.

Only the contract lives here: the documents, their files, their digest, and the status that a
gateway answers with. A configuration is several files, so that no Secret grows past what a Secret
can hold: `relay` and up to 16 shares of senders, `senders-00` to `senders-15`. Each file is
`FILE/v1.json.gz`: gzipped `{schema, digest, document}`. A reader ignores fields that it does not
know (and can name them), refuses a newer schema, and checks the digest. Durations are seconds,
sizes octets, times RFC 3339 with Z.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

#: Rises only where a reader that ignores the new field would do harm.
SCHEMA = 1
#: The key in a Secret, and the file's name below its folder.
FILE_NAME = f"v{SCHEMA}.json.gz"
RELAY_FILE = "relay"
SENDER_SHARES = 16
#: A Secret holds 1 MiB; a share beyond this is full (the rest is room for metadata and a second
#: schema).
MAX_FILE_OCTETS = 900 * 1024
#: A gzipped file may not unfold to more than this: a bound against a damaged or hostile file.
MAX_UNFOLDED_OCTETS = 64 * 1024 * 1024

ADMIN_PORT = 8025


def share_name(share: int) -> str:
    """The file of one share of the senders: `senders-00` to `senders-15`."""
    return f"senders-{share:02d}"


def share_of(uid: str) -> int:
    """Which share holds the sender of this UID: stable for its life, even over all shares."""
    return hashlib.sha256(uid.encode()).digest()[0] % SENDER_SHARES


def file_names() -> tuple[str, ...]:
    """All files that a configuration may have, the relay's first."""
    return (RELAY_FILE, *(share_name(n) for n in range(SENDER_SHARES)))


class ConfigError(ValueError):
    """A configuration that cannot be used: `file` and a sentence that says what to do."""

    def __init__(self, file: str, sentence: str) -> None:
        """Name the file and what is wrong with it."""
        super().__init__(f"{file}: {sentence}")
        self.file = file
        self.sentence = sentence


class _Part(BaseModel):
    """A part of a document: frozen, camelCase in JSON, unknown fields kept aside so that they
    can be named.
    """

    model_config = ConfigDict(
        frozen=True, extra="allow", alias_generator=to_camel, populate_by_name=True
    )


class TlsMode(StrEnum):
    """How a connection gets its TLS."""

    NONE = "None"
    START_TLS = "StartTLS"
    IMPLICIT = "Implicit"


class AuthenticationMode(StrEnum):
    """Whether a listener insists on AUTH."""

    REQUIRED = "Required"
    NONE = "None"


class Scope(StrEnum):
    """Whose use a rate counts together."""

    RELAY = "Relay"
    NAMESPACE = "Namespace"
    SENDER = "Sender"


class RateUnit(StrEnum):
    """What a rate counts."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"


class OnLimit(StrEnum):
    """What a sender past its limit is told: 451 or 550."""

    DEFER = "Defer"
    REJECT = "Reject"


class OnTooManyRecipients(StrEnum):
    """What happens to a message with more recipients than one may have."""

    REJECT_MESSAGE = "RejectMessage"
    DEFER_RECIPIENTS = "DeferRecipients"


class Certificate(_Part):
    """A certificate chain and its private key, both PEM."""

    chain: str
    key: str = Field(repr=False)


class ListenerTls(_Part):
    """TLS of a listener: `certificates` hold the chains it may show, the first being the
    default.
    """

    mode: TlsMode = TlsMode.START_TLS
    certificates: tuple[Certificate, ...] = ()


class ListenerAuthentication(_Part):
    """Who may submit: logins only, or (None) whoever connects from `client_cidrs`."""

    mode: AuthenticationMode = AuthenticationMode.REQUIRED
    client_cidrs: tuple[str, ...] = ()


class Listener(_Part):
    """A port that takes mail. `port` is the one to bind."""

    name: str
    protocol: Literal["SMTP"] = "SMTP"
    port: int = Field(ge=0, le=65535)
    tls: ListenerTls = ListenerTls()
    authentication: ListenerAuthentication = ListenerAuthentication()


class HostPort(_Part):
    """One host of a smarthost."""

    host: str
    port: int = Field(ge=1, le=65535)


class UpstreamTls(_Part):
    """TLS towards a smarthost.

    `ca` is a PEM bundle instead of the system's; `server_name` the name to verify.
    """

    mode: TlsMode = TlsMode.START_TLS
    ca: str | None = None
    server_name: str | None = None


class Login(_Part):
    """Username and password for AUTH PLAIN or LOGIN."""

    username: str
    password: str = Field(repr=False)


class Smarthost(_Part):
    """A relay that takes our mail; `hosts` in the order to try."""

    hosts: tuple[HostPort, ...] = Field(min_length=1)
    tls: UpstreamTls = UpstreamTls()
    login: Login | None = None


class SandboxSettings(_Part):
    """Captures mail instead of sending it: the newest `keep` messages."""

    keep: int = Field(default=100, ge=1)


class Upstream(_Part):
    """A way out: exactly one of `smarthost` and `sandbox`."""

    name: str
    smarthost: Smarthost | None = None
    sandbox: SandboxSettings | None = None
    connections: int = Field(default=10, ge=1)
    messages_per_connection: int = Field(default=100, ge=1)


class Rate(_Part):
    """`count` units in `per` seconds (a rate, GCRA), `burst` of them at once; the relay's
    figure, all replicas together.
    """

    scope: Scope
    unit: RateUnit = RateUnit.MESSAGES
    count: int = Field(ge=1)
    per: float = Field(gt=0)
    burst: int = Field(ge=1)
    on_limit: OnLimit = OnLimit.DEFER


class Limits(_Part):
    """What one message may be, and how many may come."""

    max_size: int = Field(default=25 * 1024 * 1024, ge=1)
    max_recipients: int = Field(default=1000, ge=1)
    on_too_many_recipients: OnTooManyRecipients = OnTooManyRecipients.REJECT_MESSAGE
    rates: tuple[Rate, ...] = ()


class Retry(_Part):
    """How long (seconds) a message is tried, and the longest pause between two attempts."""

    give_up_after: float = Field(default=5 * 86400.0, gt=0)
    max_interval: float = Field(default=3600.0, gt=0)


class RelayReference(_Part):
    """Which MailRelay this configuration was made from."""

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0


class RelayDocument(_Part):
    """The file `relay`: everything but the senders."""

    relay: RelayReference
    hostname: str
    suspend: bool = False
    replicas: int = Field(default=1, ge=1)
    listeners: tuple[Listener, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    limits: Limits = Limits()
    retry: Retry = Retry()
    admin_token_sha256: str = ""  # hex; empty: nobody may read /status
    admin_certificate: Certificate | None = None  # shown by the admin port, where it has TLS


class Sha256Verifier(_Part):
    """For minted passwords (256 random bits): SHA-256 of the password, hex.

    `until` (RFC 3339; empty: without end) is when the writer takes out a password that another one
    has replaced.
    """

    kind: Literal["sha256"] = "sha256"
    hash: str
    until: str = ""


class ScryptVerifier(_Part):
    """For passwords that people chose: scrypt (RFC 7914), salt and hash in hex."""

    kind: Literal["scrypt"] = "scrypt"
    n: int = Field(default=1 << 15, ge=2, le=1 << 17)
    r: int = Field(default=8, ge=1, le=16)
    p: int = Field(default=1, ge=1, le=4)
    salt: str
    hash: str


Verifier = Annotated[Sha256Verifier | ScryptVerifier, Field(discriminator="kind")]


class Sender(_Part):
    """A MailSender: how it logs in and as what it may send.

    Passwords never come here, only verifiers.
    """

    uid: str
    namespace: str
    name: str
    username: str
    verifiers: tuple[Verifier, ...] = ()
    addresses: tuple[str, ...] = ()  # `a@b`, `*@b` or `*`
    suspend: bool = False


class SendersDocument(_Part):
    """A file `senders-NN`: the senders whose UID falls into this share."""

    share: int = Field(ge=0, lt=SENDER_SHARES)
    senders: tuple[Sender, ...] = ()


Document = RelayDocument | SendersDocument


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
    """One document as the octets of its file; equal documents give equal octets."""
    body = document.model_dump(mode="json", by_alias=True)
    wrapped = {"schema": SCHEMA, "digest": _document_digest(body), "document": body}
    return gzip.compress(_canonical(wrapped), compresslevel=6, mtime=0)


def encode_files(relay: RelayDocument, senders: Iterable[Sender]) -> dict[str, bytes]:
    """A configuration as files by name: `relay` and only those shares that hold a sender, each
    ordered by UID.
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
    """The digest of one file, as `/status` shows it; ConfigError as in `load`."""
    return str(_unfold(name, octets)["digest"])


def total_digest(file_digests: Mapping[str, str]) -> str:
    """The digest of a whole configuration, from the digests of its files."""
    total = hashlib.sha256()
    for name in sorted(file_digests):
        total.update(f"{name} {file_digests[name]}\n".encode())
    return total.hexdigest()


def load(files: Mapping[str, bytes]) -> GatewayConfig:
    """Read a configuration from its files' octets; ConfigError says which file and what is wrong
    with it.
    """
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
            document = model.model_validate(wrapped["document"])
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
            raise ConfigError(name, f"is cut short or unfolds to over {MAX_UNFOLDED_OCTETS} octets")
        wrapped = json.loads(text)
    except (zlib.error, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(name, f"is not gzipped JSON ({error}); write it again") from None
    if not isinstance(wrapped, dict) or not isinstance(wrapped.get("schema"), int):
        raise ConfigError(name, "has no number `schema`; it was not written by mailrelay")
    if wrapped["schema"] > SCHEMA:
        raise ConfigError(
            name,
            f"has schema {wrapped['schema']}, and this gateway reads up to {SCHEMA}:"
            " update the gateway",
        )
    try:
        found = _document_digest(wrapped.get("document"))
    except ValueError:  # a lone surrogate, which no writer of ours writes
        found = ""
    if not found or wrapped.get("digest") != found:
        raise ConfigError(
            name, "does not match its digest: it was changed or damaged after writing"
        )
    return wrapped


def _unknown_paths(part: BaseModel, path: str) -> Iterator[str]:
    """The paths of all fields that were in the JSON and that the models do not know."""
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


class UpstreamState(StrEnum):
    """What we know of an upstream: nothing yet, that it takes mail, or that its mail is held."""

    UNKNOWN = "Unknown"
    UP = "Up"
    HELD = "Held"


class UpstreamStatus(_Part):
    """One upstream in `/status`; `message` is the upstream's own reply where there was one."""

    name: str
    state: UpstreamState = UpstreamState.UNKNOWN
    reason: str = ""
    message: str = ""
    since: str = ""


class QueueStatus(_Part):
    """What waits: messages in the queue, when the oldest was accepted (empty: none), and dead
    letters kept.
    """

    messages: int = 0
    oldest: str = ""
    dead_letters: int = 0


class GatewayStatus(_Part):
    """The answer to GET /status (bearer token).

    `digest` names the configuration that runs and `files` each file of it, so that the operator
    sees who is known without waiting for a configuration that changes all the time; `problem` says
    why the newest one is not in force.
    """

    version: str
    digest: str = ""
    files: Mapping[str, str] = Field(default_factory=dict)
    schema_number: int = SCHEMA
    problem: str = ""
    hostname: str = ""
    started_at: str
    accepting: bool = True
    suspended: bool = False
    listeners: tuple[str, ...] = ()
    ports: dict[str, int] = {}
    not_serving: tuple[str, ...] = ()
    upstreams: tuple[UpstreamStatus, ...] = ()
    queue: QueueStatus = QueueStatus()
