"""The contract's documents: what the operator writes and the gateway reads, as models. Pure.

A configuration is a document about the relay and up to 16 shares of its senders, so that no Secret
grows past what a Secret can hold. Durations are seconds, sizes octets, times RFC 3339 with Z. How
the documents lie in files is in `files`.

Strict when written, tolerant when read, since operator and gateway are not updated at once:

- No field has a default: the writer says everything, and what a user may leave out is decided in
  the operator's `api` alone. A misspelt or forgotten field raises where the document is built.
- A newer writer's field that a reader does not know is kept aside, ignored, and named
  (`files.GatewayConfig.unknown_fields`).
- What comes in kinds (upstreams, their logins, verifiers) is a union tagged by `kind`. A kind that
  a reader does not know is an `UnknownKind`, never an error, and never dropped: an upstream of an
  unknown kind holds its mail, a login of an unknown kind is not tried, a verifier of an unknown
  kind makes AUTH answer 4xx.
- A field added after a release is required of the writer like any other. What its absence means in
  the document of an older writer, its model says in a validator in mode "before" that acts in the
  context READING alone.
- Where ignoring what is new would do harm (a new value of an enum, a field that forbids something),
  SCHEMA rises, and the operator writes a document of each schema until no older gateway is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel

#: Rises only where a reader that ignores the new field would do harm.
SCHEMA = 1
SENDER_SHARES = 16
ADMIN_PORT = 8025

#: The context of pydantic in which documents are read; built in code, they are written.
READING: Final = "reading"


class Part(BaseModel):
    """A part of a document: frozen, camelCase in JSON; see above for what raises and when."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    @classmethod
    def read(cls, document: Any) -> Self:
        """From another version's JSON: unknown fields are kept aside in `model_extra`, unknown
        kinds are tolerated. ValidationError if it cannot be used all the same.
        """
        return cls.model_validate(document, extra="allow", context=READING)


class UnknownKind(Part):
    """What a newer writer means and this reader does not know; kept whole, so that it can be
    written again as it was. Only ever read.
    """

    model_config = ConfigDict(extra="allow")

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _is_read(cls, given: Any, info: ValidationInfo) -> Any:
        if info.context != READING and not isinstance(given, UnknownKind):
            raise ValueError("this version writes no such kind")
        return given


def _by_kind(*known: str) -> Discriminator:
    """Chooses the member of a union by its `kind`; "" is the tag of UnknownKind."""

    def tag(value: Any) -> str:
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        return kind if kind in known else ""

    return Discriminator(tag)


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


class Certificate(Part):
    """A certificate chain and its private key, both PEM."""

    chain: str
    key: str = Field(repr=False)


class ListenerTls(Part):
    """TLS of a listener: `certificates` hold the chains it may show, the first being the
    default.
    """

    mode: TlsMode
    certificates: tuple[Certificate, ...]


class ListenerAuthentication(Part):
    """Who may submit: logins only, or (None) whoever connects from `client_cidrs`."""

    mode: AuthenticationMode
    client_cidrs: tuple[str, ...]


class Listener(Part):
    """A port that takes mail. `port` is the one to bind."""

    name: str
    protocol: Literal["SMTP"]
    port: int = Field(ge=0, le=65535)
    tls: ListenerTls
    authentication: ListenerAuthentication


class HostPort(Part):
    """One host of a smarthost."""

    host: str
    port: int = Field(ge=1, le=65535)


class UpstreamTls(Part):
    """TLS towards a smarthost.

    `ca` is a PEM bundle instead of the system's; `server_name` the name to verify instead of the
    host's.
    """

    mode: TlsMode
    ca: str | None
    server_name: str | None


class Login(Part):
    """Username and password for AUTH PLAIN or LOGIN."""

    kind: Literal["login"] = "login"
    username: str
    password: str = Field(repr=False)


#: How we log in to a smarthost.
Auth = Annotated[
    Annotated[Login, Tag("login")] | Annotated[UnknownKind, Tag("")], _by_kind("login")
]


class Smarthost(Part):
    """A relay that takes our mail; `hosts` in the order to try, without `auth` no login."""

    kind: Literal["smarthost"] = "smarthost"
    hosts: tuple[HostPort, ...] = Field(min_length=1)
    tls: UpstreamTls
    auth: Auth | None


class Sandbox(Part):
    """Captures mail instead of sending it: the newest `keep` messages."""

    kind: Literal["sandbox"] = "sandbox"
    keep: int = Field(ge=1)


#: What an upstream is, by its kind: a model for each, and a line here.
Settings = Annotated[
    Annotated[Smarthost, Tag("smarthost")]
    | Annotated[Sandbox, Tag("sandbox")]
    | Annotated[UnknownKind, Tag("")],
    _by_kind("smarthost", "sandbox"),
]


class Upstream(Part):
    """A way out: `settings` are its kind's own, all else holds for any kind."""

    name: str
    settings: Settings
    connections: int = Field(ge=1)
    messages_per_connection: int = Field(ge=1)

    @property
    def kind(self) -> str:
        """Which kind of upstream it is: whose courier delivers there."""
        return self.settings.kind


class Rate(Part):
    """`count` units in `per` seconds (a rate, GCRA), `burst` of them at once; the relay's
    figure, all replicas together.
    """

    scope: Scope
    unit: RateUnit
    count: int = Field(ge=1)
    per: float = Field(gt=0)
    burst: int = Field(ge=1)
    on_limit: OnLimit


class Limits(Part):
    """What one message may be, and how many may come."""

    max_size: int = Field(ge=1)
    max_recipients: int = Field(ge=1)
    on_too_many_recipients: OnTooManyRecipients
    rates: tuple[Rate, ...]


class Retry(Part):
    """How long (seconds) a message is tried, and the longest pause between two attempts."""

    give_up_after: float = Field(gt=0)
    max_interval: float = Field(gt=0)


class RelayReference(Part):
    """Which MailRelay this configuration was made from."""

    namespace: str
    name: str
    uid: str
    generation: int


class RelayDocument(Part):
    """The file `relay`: everything but the senders."""

    relay: RelayReference
    hostname: str
    suspend: bool
    replicas: int = Field(ge=1)
    listeners: tuple[Listener, ...]
    upstreams: tuple[Upstream, ...]
    limits: Limits
    retry: Retry
    admin_token_sha256: str  # hex; empty: nobody may read /status
    admin_certificate: Certificate | None  # shown by the admin port, where it has TLS


class Sha256Verifier(Part):
    """For minted passwords (256 random bits): SHA-256 of the password, hex.

    `until` (RFC 3339; empty: without end) is when a password ends that was replaced: a reader takes
    no login by it from that moment on, and the writer takes it out.
    """

    kind: Literal["sha256"] = "sha256"
    hash: str
    until: str


class ScryptVerifier(Part):
    """For passwords that people chose: scrypt (RFC 7914), salt and hash in hex."""

    kind: Literal["scrypt"] = "scrypt"
    n: int = Field(ge=2, le=1 << 17)
    r: int = Field(ge=1, le=16)
    p: int = Field(ge=1, le=4)
    salt: str
    hash: str


Verifier = Annotated[
    Annotated[Sha256Verifier, Tag("sha256")]
    | Annotated[ScryptVerifier, Tag("scrypt")]
    | Annotated[UnknownKind, Tag("")],
    _by_kind("sha256", "scrypt"),
]


class Sender(Part):
    """A MailSender: how it logs in and as what it may send.

    Passwords never come here, only verifiers.
    """

    uid: str
    namespace: str
    name: str
    username: str
    verifiers: tuple[Verifier, ...]
    addresses: tuple[str, ...]  # `a@b`, `*@b` or `*`
    suspend: bool


class SendersDocument(Part):
    """A file `senders-NN`: the senders whose UID falls into this share."""

    share: int = Field(ge=0, lt=SENDER_SHARES)
    senders: tuple[Sender, ...]


Document = RelayDocument | SendersDocument
