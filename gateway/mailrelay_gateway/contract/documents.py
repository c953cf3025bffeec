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

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from mailrelay_gateway.contract.oauth2 import OAuth2
from mailrelay_gateway.contract.part import READING as READING  # noqa: PLC0414 - it is of the documents
from mailrelay_gateway.contract.part import ByKind
from mailrelay_gateway.contract.part import Part as Part  # noqa: PLC0414
from mailrelay_gateway.contract.part import UnknownKind as UnknownKind  # noqa: PLC0414

#: Rises only where a reader that ignores the new field would do harm.
SCHEMA = 1
SENDER_SHARES = 16
ADMIN_PORT = 8025


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
Auth = Annotated[Login | OAuth2 | UnknownKind, ByKind()]


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


#: What an upstream is, by its kind: a model for each, and its name here.
Settings = Annotated[Smarthost | Sandbox | UnknownKind, ByKind()]


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


class Egress(Part):
    """Where the gateway may connect on somebody's word (URLs of token endpoints): inside these
    networks also to addresses that are not public, and by plain http; `loopback`: they may name
    loopback addresses. `proxy`: http://HOST:PORT through which public addresses are reached.
    """

    allowed_cidrs: tuple[str, ...]
    loopback: bool
    proxy: str


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
    egress: Egress

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """One that named no URLs, and allowed none but public ones."""
        if info.context == READING and isinstance(given, dict):
            return {"egress": {"allowedCidrs": [], "loopback": False, "proxy": ""}} | given
        return given


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


Verifier = Annotated[Sha256Verifier | ScryptVerifier | UnknownKind, ByKind()]


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
