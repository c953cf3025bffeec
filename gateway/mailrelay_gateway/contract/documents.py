"""The contract's documents: what the operator writes and the gateway reads, as models. Pure.

A configuration is one document about the relay and up to 16 shares of its senders, so that no
Secret exceeds its size limit. Durations are seconds, sizes octets, times RFC 3339 with Z. `files`
defines the file format.

Strict when written, tolerant when read, since operator and gateway are not upgraded at once:

- No field has a default: the writer sets every field; defaults for users are in the operator's
`api` only. A misspelt or missing field raises where the document is built.
- A reader ignores an unknown field of a newer writer, and reports it
(`files.GatewayConfig.unknown_fields`).
- Variants (upstreams, their logins, verifiers) are unions tagged by `kind`. An unknown kind is read
as `UnknownKind`, never an error, and never dropped: an upstream of an unknown kind holds its
mail, a login of an unknown kind is not tried, a verifier of an unknown kind makes AUTH answer
4xx.
- A field added after a release is required of the writer like any other. A "before" validator,
active only in the context READING, defines what its absence in an older writer's document means.
- Where ignoring something new would do harm (a new value of an enum, a field that forbids
something), SCHEMA is raised, and the operator writes a document of each schema until no older
gateway is left.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from mailrelay_gateway.contract.api_upstreams import Api
from mailrelay_gateway.contract.attribution import Attribution as Attribution  # noqa: PLC0414
from mailrelay_gateway.contract.oauth2 import OAuth2
from mailrelay_gateway.contract.part import READING as READING  # noqa: PLC0414 - it is of the documents
from mailrelay_gateway.contract.part import ByKind
from mailrelay_gateway.contract.part import Part as Part  # noqa: PLC0414
from mailrelay_gateway.contract.part import UnknownKind as UnknownKind  # noqa: PLC0414
from mailrelay_gateway.contract.replies import ReplyRule as ReplyRule  # noqa: PLC0414

#: Raised only if a reader that ignores the new field would do harm.
SCHEMA = 1
SENDER_SHARES = 16
ADMIN_PORT = 8025


class TlsMode(StrEnum):
    """How a connection starts TLS."""

    NONE = "None"
    START_TLS = "StartTLS"
    IMPLICIT = "Implicit"


class AuthenticationMode(StrEnum):
    """Whether a listener requires AUTH."""

    REQUIRED = "Required"
    NONE = "None"


class Scope(StrEnum):
    """Whose usage a rate counts together."""

    RELAY = "Relay"
    NAMESPACE = "Namespace"
    SENDER = "Sender"


class RateUnit(StrEnum):
    """What a rate counts."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"


class OnLimit(StrEnum):
    """The reply above a limit: 451 or 550."""

    DEFER = "Defer"
    REJECT = "Reject"


class OnTooManyRecipients(StrEnum):
    """What happens to a message with too many recipients."""

    REJECT_MESSAGE = "RejectMessage"
    DEFER_RECIPIENTS = "DeferRecipients"


class LongLines(StrEnum):
    """What happens to a message with overlong body lines: it is re-encoded, or gets 550."""

    ENCODE = "Encode"
    REJECT = "Reject"


class Certificate(Part):
    """A certificate chain and its private key, both PEM."""

    chain: str
    key: str = Field(repr=False)


class ListenerTls(Part):
    """TLS of a listener: `certificates` are its chains, the first being the default."""

    mode: TlsMode
    certificates: tuple[Certificate, ...]


class ListenerAuthentication(Part):
    """Who may submit: only logged-in clients, or (None) all clients in `client_cidrs`."""

    mode: AuthenticationMode
    client_cidrs: tuple[str, ...]


class Listener(Part):
    """A port that accepts mail. `port` is the one to bind."""

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
    """TLS to a smarthost.

    `ca` is a PEM bundle that replaces the system's; `server_name` is the name to verify instead of
    the host's; `certificate` is what we show to a server that asks for one.
    """

    mode: TlsMode
    ca: str | None
    server_name: str | None
    certificate: Certificate | None

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older writer had no client certificates."""
        if info.context == READING and isinstance(given, dict):
            return {"certificate": None} | given
        return given


class Login(Part):
    """Username and password for AUTH PLAIN or LOGIN."""

    kind: Literal["login"] = "login"
    username: str
    password: str = Field(repr=False)


#: The login to a smarthost.
Auth = Annotated[Login | OAuth2 | UnknownKind, ByKind()]


class Smarthost(Part):
    """A relay to send mail through; `hosts` are tried in order; without `auth` no login."""

    kind: Literal["smarthost"] = "smarthost"
    hosts: tuple[HostPort, ...] = Field(min_length=1)
    tls: UpstreamTls
    auth: Auth | None


class Sandbox(Part):
    """Captures mail instead of sending it: the newest `keep` messages."""

    kind: Literal["sandbox"] = "sandbox"
    keep: int = Field(ge=1)


#: The settings of an upstream by kind: one model each.
Settings = Annotated[Smarthost | Api | Sandbox | UnknownKind, ByKind()]


class Pace(Part):
    """A sending rate of an upstream: `count` units in any `per` seconds, of all replicas
    together.
    """

    name: str
    unit: RateUnit
    count: int = Field(ge=1)
    per: float = Field(ge=1)


class Upstream(Part):
    """An upstream: `settings` are specific to its kind, the rest is common to all kinds."""

    name: str
    settings: Settings
    connections: int = Field(ge=1)
    messages_per_connection: int = Field(ge=1)
    max_size: int | None = Field(ge=1)  # octets of a message, as sent; None: any
    max_recipients: int | None = Field(ge=1)  # of a transaction; None: any number
    pace: tuple[Pace, ...]  # all apply
    replies: tuple[ReplyRule, ...]  # before the gateway's own rules; the first match wins
    attribution: tuple[Attribution, ...]
    #: Fields that are taken out of clients' messages, or their beginnings (they end in `-`).
    control_headers: tuple[str, ...]
    pass_headers: tuple[str, ...]  # single ones of them that are not

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older writer knew neither bounds nor fields, and had no rules of its own."""
        if info.context == READING and isinstance(given, dict):
            return {
                "maxSize": None,
                "maxRecipients": None,
                "pace": [],
                "replies": [],
                "attribution": [],
                "controlHeaders": [],
                "passHeaders": [],
            } | given
        return given

    @property
    def kind(self) -> str:
        """The kind of the upstream, which selects its courier."""
        return self.settings.kind


class RouteMatch(Part):
    """Which mail a route is for: all criteria must match, with any entry of a list; an empty list
    is no criterion. `namespaces` are those whose labels match the route's selector (None: it has
    none).
    """

    sender_domains: tuple[str, ...]  # `example.com`, or `*.example.com` for all below it
    recipient_domains: tuple[str, ...]
    namespaces: tuple[str, ...] | None


class RouteUpstream(Part):
    """An upstream of a route, by name. Adjacent ones with a weight share the mail by it."""

    name: str
    weight: int | None = Field(ge=1)


class Route(Part):
    """The upstreams that some mail takes, in fail-over order; not all must be configured."""

    name: str
    match: RouteMatch
    upstreams: tuple[RouteUpstream, ...]


class Rate(Part):
    """`count` units per `per` seconds (a rate, GCRA), `burst` of them at once; for all replicas
    together.
    """

    scope: Scope
    unit: RateUnit
    count: int = Field(ge=1)
    per: float = Field(gt=0)
    burst: int = Field(ge=1)
    on_limit: OnLimit


class Limits(Part):
    """Limits of one message, and of rates."""

    max_size: int = Field(ge=1)
    max_recipients: int = Field(ge=1)
    on_too_many_recipients: OnTooManyRecipients
    long_lines: LongLines
    rates: tuple[Rate, ...]

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older writer knew gateways that refuse overlong lines."""
        if info.context == READING and isinstance(given, dict):
            return {"longLines": LongLines.REJECT.value} | given
        return given


class Retry(Part):
    """How long (seconds) delivery is retried, and the longest pause between two attempts. After
    `warn_after` the sender is told that its message is delayed; 0: never.
    """

    give_up_after: float = Field(gt=0)
    max_interval: float = Field(gt=0)
    warn_after: float = Field(ge=0)

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older writer knew gateways that tell nobody."""
        if info.context == READING and isinstance(given, dict):
            return {"warnAfter": 0} | given
        return given


class Egress(Part):
    """Where the gateway may connect for URLs in resources (token endpoints): inside these networks
    also to addresses that are not public, and with plain http; `loopback`: they may include
    loopback addresses. `proxy`: http://HOST:PORT, the proxy for public addresses.
    """

    allowed_cidrs: tuple[str, ...]
    loopback: bool
    proxy: str


class RelayReference(Part):
    """The MailRelay that this configuration was made from."""

    namespace: str
    name: str
    uid: str
    generation: int


class RelayDocument(Part):
    """The file `relay`: everything except the senders."""

    relay: RelayReference
    hostname: str
    suspend: bool
    replicas: int = Field(ge=1)
    listeners: tuple[Listener, ...]
    upstreams: tuple[Upstream, ...]
    routes: tuple[Route, ...]  # the first match decides; empty: all upstreams in order
    limits: Limits
    retry: Retry
    null_sender: str  # stands in for the null sender at upstreams; "": nothing does
    admin_token_sha256: str  # hex; empty: no access to /status
    admin_certificate: Certificate | None  # of the admin port, if it has TLS
    egress: Egress

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older writer had no such URLs, allowed only public addresses, and rewrote nothing."""
        if info.context == READING and isinstance(given, dict):
            egress = {"allowedCidrs": [], "loopback": False, "proxy": ""}
            return {"egress": egress, "nullSender": ""} | given
        return given


class Sha256Verifier(Part):
    """For generated passwords (256 random bits): SHA-256 of the password, hex.

    `until` (RFC 3339; empty: unlimited) is when a replaced password expires: from then on a reader
    does not accept it, and the writer removes it.
    """

    kind: Literal["sha256"] = "sha256"
    hash: str
    until: str


class ScryptVerifier(Part):
    """For user-chosen passwords: scrypt (RFC 7914), salt and hash in hex."""

    kind: Literal["scrypt"] = "scrypt"
    n: int = Field(ge=2, le=1 << 17)
    r: int = Field(ge=1, le=16)
    p: int = Field(ge=1, le=4)
    salt: str
    hash: str


Verifier = Annotated[Sha256Verifier | ScryptVerifier | UnknownKind, ByKind()]


class Sender(Part):
    """A MailSender: its login and the addresses it may send as.

    It never contains passwords, only verifiers.
    """

    uid: str
    namespace: str
    name: str
    username: str
    verifiers: tuple[Verifier, ...]
    addresses: tuple[str, ...]  # `a@b`, `*@b` or `*`
    suspend: bool
    bulk: bool  # the class of its mail: Bulk, else Transactional

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older writer knew one class."""
        if info.context == READING and isinstance(given, dict):
            return {"bulk": False} | given
        return given


class SendersDocument(Part):
    """A file `senders-NN`: the senders whose UID maps to this share."""

    share: int = Field(ge=0, lt=SENDER_SHARES)
    senders: tuple[Sender, ...]


Document = RelayDocument | SendersDocument
