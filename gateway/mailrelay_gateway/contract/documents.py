"""The contract's documents: what the operator writes and the gateway reads, as models.

A configuration is a document about the relay and up to 16 shares of its senders, so that no Secret
grows past what a Secret can hold. Durations are seconds, sizes octets, times RFC 3339 with Z. How
the documents lie in files is in `files`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

#: Rises only where a reader that ignores the new field would do harm.
SCHEMA = 1
SENDER_SHARES = 16
ADMIN_PORT = 8025


class Part(BaseModel):
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


class Certificate(Part):
    """A certificate chain and its private key, both PEM."""

    chain: str
    key: str = Field(repr=False)


class ListenerTls(Part):
    """TLS of a listener: `certificates` hold the chains it may show, the first being the
    default.
    """

    mode: TlsMode = TlsMode.START_TLS
    certificates: tuple[Certificate, ...] = ()


class ListenerAuthentication(Part):
    """Who may submit: logins only, or (None) whoever connects from `client_cidrs`."""

    mode: AuthenticationMode = AuthenticationMode.REQUIRED
    client_cidrs: tuple[str, ...] = ()


class Listener(Part):
    """A port that takes mail. `port` is the one to bind."""

    name: str
    protocol: Literal["SMTP"] = "SMTP"
    port: int = Field(ge=0, le=65535)
    tls: ListenerTls = ListenerTls()
    authentication: ListenerAuthentication = ListenerAuthentication()


class HostPort(Part):
    """One host of a smarthost."""

    host: str
    port: int = Field(ge=1, le=65535)


class UpstreamTls(Part):
    """TLS towards a smarthost.

    `ca` is a PEM bundle instead of the system's; `server_name` the name to verify.
    """

    mode: TlsMode = TlsMode.START_TLS
    ca: str | None = None
    server_name: str | None = None


class Login(Part):
    """Username and password for AUTH PLAIN or LOGIN."""

    username: str
    password: str = Field(repr=False)


class Smarthost(Part):
    """A relay that takes our mail; `hosts` in the order to try."""

    hosts: tuple[HostPort, ...] = Field(min_length=1)
    tls: UpstreamTls = UpstreamTls()
    login: Login | None = None


class SandboxSettings(Part):
    """Captures mail instead of sending it: the newest `keep` messages."""

    keep: int = Field(default=100, ge=1)


class Upstream(Part):
    """A way out: exactly one of `smarthost` and `sandbox`."""

    name: str
    smarthost: Smarthost | None = None
    sandbox: SandboxSettings | None = None
    connections: int = Field(default=10, ge=1)
    messages_per_connection: int = Field(default=100, ge=1)


class Rate(Part):
    """`count` units in `per` seconds (a rate, GCRA), `burst` of them at once; the relay's
    figure, all replicas together.
    """

    scope: Scope
    unit: RateUnit = RateUnit.MESSAGES
    count: int = Field(ge=1)
    per: float = Field(gt=0)
    burst: int = Field(ge=1)
    on_limit: OnLimit = OnLimit.DEFER


class Limits(Part):
    """What one message may be, and how many may come."""

    max_size: int = Field(default=25 * 1024 * 1024, ge=1)
    max_recipients: int = Field(default=1000, ge=1)
    on_too_many_recipients: OnTooManyRecipients = OnTooManyRecipients.REJECT_MESSAGE
    rates: tuple[Rate, ...] = ()


class Retry(Part):
    """How long (seconds) a message is tried, and the longest pause between two attempts."""

    give_up_after: float = Field(default=5 * 86400.0, gt=0)
    max_interval: float = Field(default=3600.0, gt=0)


class RelayReference(Part):
    """Which MailRelay this configuration was made from."""

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0


class RelayDocument(Part):
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


class Sha256Verifier(Part):
    """For minted passwords (256 random bits): SHA-256 of the password, hex.

    `until` (RFC 3339; empty: without end) is when the writer takes out a password that another one
    has replaced.
    """

    kind: Literal["sha256"] = "sha256"
    hash: str
    until: str = ""


class ScryptVerifier(Part):
    """For passwords that people chose: scrypt (RFC 7914), salt and hash in hex."""

    kind: Literal["scrypt"] = "scrypt"
    n: int = Field(default=1 << 15, ge=2, le=1 << 17)
    r: int = Field(default=8, ge=1, le=16)
    p: int = Field(default=1, ge=1, le=4)
    salt: str
    hash: str


Verifier = Annotated[Sha256Verifier | ScryptVerifier, Field(discriminator="kind")]


class Sender(Part):
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


class SendersDocument(Part):
    """A file `senders-NN`: the senders whose UID falls into this share."""

    share: int = Field(ge=0, lt=SENDER_SHARES)
    senders: tuple[Sender, ...] = ()


Document = RelayDocument | SendersDocument
