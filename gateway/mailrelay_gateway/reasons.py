"""Every reason word of the gateway: the same in the reply's log line, the metric label, `/status`
and the docs. Pure.

Each word has one sentence for the person who meets it, and, where a client is told, what it is told
(REPLIES); docs/reference/reasons.md is generated from here. Imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why something was refused, deferred, failed or held. `.sentence` explains it."""

    sentence: str

    def __new__(cls, word: str, sentence: str) -> Reason:
        """Make the member `word`, with its explanation beside it."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.sentence = sentence
        return member

    # --- on the way in: the session
    TOO_MANY_CONNECTIONS = "TooManyConnections", "The listener's connection limit is reached."
    SHUTTING_DOWN = (
        "ShuttingDown",
        "The gateway is stopping; clients can connect to another replica.",
    )
    IDLE_TIMEOUT = "IdleTimeout", "The client was silent for too long."
    TOO_MANY_ERRORS = "TooManyErrors", "The client exceeded the limit of errors per session."
    SYNTAX = "Syntax", "Syntax error in the command or its argument (RFC 5321)."
    LINE_TOO_LONG = (
        "LineTooLong",
        "A command line is longer than RFC 5321 section 4.5.3.1.4 allows.",
    )
    BAD_SEQUENCE = (
        "BadSequence",
        "Bad sequence of commands, for example RCPT before MAIL.",
    )
    NOT_SMTP = (
        "NotSmtp",
        "The client sent an HTTP request to an SMTP port; the connection was closed.",
    )
    UNSUPPORTED_PARAMETER = (
        "UnsupportedParameter",
        "MAIL or RCPT had a parameter that is not offered.",
    )
    COMMAND_UNKNOWN = "CommandUnknown", "The command is unknown or not implemented."
    INTERNAL_ERROR = "InternalError", "Internal error; the client may try again."
    # --- on the way in: who
    TLS_REQUIRED = (
        "TlsRequired",
        "The listener takes mail and logins over TLS only: STARTTLS first.",
    )
    TLS_FAILED = "TlsFailed", "The TLS handshake with the client failed."
    AUTH_REQUIRED = "AuthRequired", "The listener takes mail only after AUTH."
    AUTH_FAILED = "AuthFailed", "Unknown username or wrong password."
    LOGIN_REVOKED = (
        "LoginRevoked",
        "The login was revoked, or its password changed, during the session.",
    )
    AUTH_BUSY = (
        "AuthBusy",
        "The queue of logins to verify is full, mostly with logins of this client; try again.",
    )
    AUTH_MECHANISM = "AuthMechanism", "The AUTH mechanism is not offered."
    CLIENT_NOT_ALLOWED = (
        "ClientNotAllowed",
        "The client's address is outside the listener's clientCIDRs.",
    )
    SENDER_SUSPENDED = "SenderSuspended", "The MailSender is suspended."
    # --- on the way in: what
    SENDER_NOT_ALLOWED = (
        "SenderNotAllowed",
        "The envelope sender is not in the MailSender's `from`.",
    )
    HEADER_FROM_NOT_ALLOWED = (
        "HeaderFromNotAllowed",
        "The header From is not in the MailSender's `from`, or is missing or repeated.",
    )
    TOO_MANY_RECIPIENTS = (
        "TooManyRecipients",
        "More recipients than `limits.message.maxRecipients`; `onTooManyRecipients` decides.",
    )
    MESSAGE_TOO_BIG = (
        "MessageTooBig",
        "More octets than `limits.message.maxSize`, or than any upstream takes.",
    )
    MALFORMED_MESSAGE = "MalformedMessage", "The message breaks RFC 5322 in a way we do not repair."
    BARE_NEWLINE = "BareNewline", "A line ends in a bare CR or LF, as in SMTP smuggling."
    MAIL_LOOP = "MailLoop", "The message has more Received headers than a loop-free path produces."
    RATE_LIMITED = (
        "RateLimited",
        "A limit of `limits.rates` is exceeded; the reply says for how long.",
    )
    # --- on the way in: our own state
    INSUFFICIENT_STORAGE = (
        "InsufficientStorage",
        "The spool is below its low-water mark of free space.",
    )
    TOO_MUCH_IN_FLIGHT = (
        "TooMuchInFlight",
        "The memory reserved for messages being received is used up.",
    )
    SPOOL_FAILED = "SpoolFailed", "The spool could not store the message; it was not accepted."
    # --- on the way out: the message
    DELIVERED = "Delivered", "The upstream answered 250 to the final dot."
    UPSTREAM_DEFERRED = "UpstreamDeferred", "The upstream answered 4xx; delivery is retried."
    UPSTREAM_REJECTED = "UpstreamRejected", "The upstream answered 5xx; the message has failed."
    SENDER_DOMAIN_REJECTED = (
        "SenderDomainRejected",
        "The sender's domain was refused, not a recipient: SPF, DKIM, DMARC, reverse DNS, TLS or"
        " the receiver's rules for bulk mail.",
    )
    SENDER_NOT_VERIFIED = (
        "SenderNotVerified",
        "The upstream's account may not send as this address or domain: verify it at the provider.",
    )
    UPSTREAM_DOUBTED = (
        "UpstreamDoubted",
        "The upstream answered 5xx to MAIL without a recognized cause; delivery is retried once.",
    )
    UPSTREAM_THROTTLED = (
        "UpstreamThrottled",
        "The upstream asked for a lower rate or fewer connections; delivery to it slows down.",
    )
    UPSTREAM_TOO_MANY_RECIPIENTS = (
        "UpstreamTooManyRecipients",
        "The upstream accepts no more recipients in this transaction; the rest follow at once.",
    )
    ADDRESS_UNSENDABLE = (
        "AddressUnsendable",
        "The address cannot be put into an SMTP command of this upstream (RFC 5321, RFC 6531).",
    )
    SIGNATURE_WOULD_BREAK = (
        "SignatureWouldBreak",
        "No upstream takes the message as it is, and re-encoding would break a signature.",
    )
    CONVERSION_IMPOSSIBLE = (
        "ConversionImpossible",
        "No upstream takes the message as it is, and it cannot be re-encoded.",
    )
    ENVELOPE_MISMATCH = (
        "EnvelopeMismatch",
        "The message's header names others than its recipients, and this upstream (Graph) sends to"
        " whoever the header names; `rewriteRecipients` removes them.",
    )
    GAVE_UP = "GaveUp", "Delivery was retried for `retry.giveUpAfter` without success."
    REPLY_LOST = "ReplyLost", "The final reply never arrived: the message may have been delivered."
    LEASE_FOUND = (
        "LeaseFound",
        "The gateway was killed during an attempt: the message may have been delivered.",
    )
    NOT_STARTED = "NotStarted", "The lease was returned before its attempt began."
    CONNECTION_LOST = "ConnectionLost", "The connection broke before the message was handed over."
    # --- on the way out: the upstream
    UPSTREAM_UNREACHABLE = "UpstreamUnreachable", "No connection to any host of the upstream."
    UPSTREAM_UNRESOLVED = "UpstreamUnresolved", "No host of the upstream has an address in DNS."
    UPSTREAM_TIMEOUT = "UpstreamTimeout", "The upstream did not answer within a deadline."
    UPSTREAM_TLS_FAILED = (
        "UpstreamTlsFailed",
        "TLS with the upstream failed: certificate, name or handshake.",
    )
    UPSTREAM_TLS_MISSING = (
        "UpstreamTlsMissing",
        "The upstream does not offer STARTTLS, which `tls.mode` requires.",
    )
    UPSTREAM_AUTH_FAILED = "UpstreamAuthFailed", "The upstream refused our login."
    UPSTREAM_AUTH_MISSING = (
        "UpstreamAuthMissing",
        "The upstream offers no AUTH mechanism that the gateway supports.",
    )
    UPSTREAM_TOKEN_REFUSED = (
        "UpstreamTokenRefused",
        "The token endpoint rejects the credentials and issues no access token.",
    )
    UPSTREAM_TOKEN_UNAVAILABLE = (
        "UpstreamTokenUnavailable",
        "The token endpoint cannot be reached or fails: there is no access token.",
    )
    UPSTREAM_TOKEN_URL_NOT_ALLOWED = (
        "UpstreamTokenUrlNotAllowed",
        "The gateway may not connect to the token endpoint: https and public addresses only,"
        " besides `allowedEgressCIDRs`.",
    )
    UPSTREAM_URL_NOT_ALLOWED = (
        "UpstreamUrlNotAllowed",
        "The gateway may not connect to the upstream's URL: https and public addresses only,"
        " besides `allowedEgressCIDRs`.",
    )
    UPSTREAM_TLS_REQUIRED = (
        "UpstreamTlsRequired",
        "The upstream accepts mail over TLS only, and `tls.mode` is None.",
    )
    UPSTREAM_REFUSED = (
        "UpstreamRefused",
        "The upstream refuses the session, the gateway's address or name, or relaying as such.",
    )
    UPSTREAM_QUOTA_EXCEEDED = (
        "UpstreamQuotaExceeded",
        "A sending quota at the provider is exhausted; mail is held until it is replenished.",
    )
    UPSTREAM_ACCOUNT_BLOCKED = (
        "UpstreamAccountBlocked",
        "The provider has blocked, or not yet activated, the sending account.",
    )
    UPSTREAM_TENANT_PAUSED = (
        "UpstreamTenantPaused",
        "The provider has paused this tenant: the mail of its namespace is held at this upstream,"
        " and no other.",
    )
    ATTRIBUTION_INVALID = (
        "AttributionInvalid",
        "A value that `attribution` would give the upstream is not 1 to 64 letters, digits, hyphens"
        " and underscores; the mail of the namespace is held at this upstream.",
    )
    UPSTREAM_PROTOCOL_ERROR = (
        "UpstreamProtocolError",
        "The upstream's reply is not SMTP.",
    )
    UPSTREAM_KIND_UNKNOWN = (
        "UpstreamKindUnknown",
        "The gateway is older than its configuration and does not know this kind of upstream or"
        " of its login.",
    )
    NO_ROUTE = "NoRoute", "No route of the MailRelay matches the mail."
    ROUTES_CHANGED = (
        "RoutesChanged",
        "The routes have changed: queued recipients take the new ones.",
    )
    UPSTREAM_GONE = "UpstreamGone", "The message's route names no upstream that is configured."
    SUSPENDED = "Suspended", "The relay is suspended: mail is accepted and stays queued."


class Wording(NamedTuple):
    """A reply's code and enhanced code (RFC 5321, RFC 3463), and its text, in which {fields} are
    filled in.
    """

    code: int
    enhanced: str
    sentence: str


_R = Reason

#: The reply for each reason that a client can be given, by variant. "" is the default; the others
#: are named after what selects them: the stage, `onLimit`, or what is wrong.
REPLIES: Mapping[Reason, Mapping[str, Wording]] = {
    # --- the session
    _R.TOO_MANY_CONNECTIONS: {"": Wording(421, "4.7.0", "{why}: try again later")},
    _R.SHUTTING_DOWN: {"": Wording(421, "4.3.2", "The gateway is stopping: connect again")},
    _R.IDLE_TIMEOUT: {
        "": Wording(421, "4.4.2", "Idle timeout: closing the connection"),
        "login": Wording(421, "4.4.2", "No login within {seconds:g} s: closing the connection"),
    },
    _R.TOO_MANY_ERRORS: {
        "": Wording(421, "4.7.0", "Too many errors in one session"),
        "commands": Wording(421, "4.7.0", "Too many commands and no message"),
        "logins": Wording(421, "4.7.0", "Too many failed logins"),
    },
    _R.SYNTAX: {
        "": Wording(501, "5.5.4", "{remedy}"),
        "line": Wording(500, "5.5.2", "End each command with CR LF, with no other CR in it"),
        "sender": Wording(501, "5.1.7", "Write the sender as <local@domain> or <>"),
        "recipient": Wording(501, "5.1.3", "Write the recipient as <local@domain>"),
        "login": Wording(501, "5.5.2", "{remedy}"),
    },
    _R.LINE_TOO_LONG: {"": Wording(500, "5.5.2", "A command line has at most {octets} octets")},
    _R.BAD_SEQUENCE: {
        "": Wording(503, "5.5.1", "{move} is not allowed now. {hint}"),
        "starttls": Wording(503, "5.5.1", "STARTTLS is not offered now"),
        "auth": Wording(503, "5.5.1", "Already logged in"),
    },
    _R.NOT_SMTP: {"": Wording(521, "5.5.1", "This port speaks SMTP, not HTTP")},
    _R.UNSUPPORTED_PARAMETER: {
        "": Wording(
            555, "5.5.4", "{verb} parameter {names} is not offered; see the answer to EHLO"
        ),
        "body": Wording(555, "5.5.4", "BODY must be 7BIT or 8BITMIME"),
        # RFC 6531 section 3.5
        "address": Wording(
            553, "5.6.7", "An address beyond ASCII needs the parameter SMTPUTF8 of MAIL"
        ),
        "smtputf8": Wording(501, "5.5.4", "SMTPUTF8 has no value"),
    },
    _R.COMMAND_UNKNOWN: {
        "": Wording(500, "5.5.1", "Unknown command"),
        "known": Wording(502, "5.5.1", "Command not implemented"),
        "auth": Wording(502, "5.5.1", "AUTH is not offered on this listener"),
    },
    _R.INTERNAL_ERROR: {
        "": Wording(451, "4.3.0", "Internal error: try again later"),
        "auth": Wording(454, "4.7.0", "Cannot check logins now"),
    },
    # --- who
    _R.TLS_REQUIRED: {"": Wording(530, "5.7.0", "Send STARTTLS first: this listener requires TLS")},
    _R.AUTH_REQUIRED: {"": Wording(530, "5.7.0", "Log in first: this listener requires AUTH")},
    _R.AUTH_FAILED: {
        "": Wording(535, "5.7.8", "Username or password is wrong"),
        "cancelled": Wording(501, "5.7.0", "AUTH cancelled by the client"),
        "authzid": Wording(
            535, "5.7.8", "Authorization identities are not supported: leave the authzid empty"
        ),
    },
    _R.LOGIN_REVOKED: {
        # 421, since the session is closed: the client may log in again
        "": Wording(421, "4.7.0", "The login was revoked or its password changed: log in again")
    },
    _R.AUTH_BUSY: {"": Wording(454, "4.7.0", "Too many logins at once: try again soon")},
    _R.AUTH_MECHANISM: {
        "": Wording(504, "5.5.4", "AUTH mechanism not offered: use one of {offered}")
    },
    _R.CLIENT_NOT_ALLOWED: {
        "": Wording(550, "5.7.1", "Your address is outside this listener's clientCIDRs"),
        # RFC 5321 section 3.1
        "greeting": Wording(554, "5.7.1", "Your address is outside this listener's clientCIDRs"),
    },
    _R.SENDER_SUSPENDED: {"": Wording(450, "4.7.1", "MailSender {sender} is suspended")},
    # --- what
    _R.SENDER_NOT_ALLOWED: {
        "": Wording(
            550,
            "5.7.1",
            "MailSender {sender} may not send as {address}: add the address to its `from`",
        )
    },
    _R.HEADER_FROM_NOT_ALLOWED: {
        "": Wording(
            550,
            "5.7.1",
            "MailSender {sender} may not send with header From {address}:"
            " add the address to its `from`",
        ),
        "number": Wording(
            550, "5.7.1", "A message must have exactly one From header; this one has {number}"
        ),
        "unreadable": Wording(550, "5.7.1", "{fault}"),
    },
    _R.NO_ROUTE: {
        "": Wording(451, "4.4.4", "No route of the MailRelay matches this mail: try again later")
    },
    _R.TOO_MANY_RECIPIENTS: {
        # at RCPT, by onTooManyRecipients
        "": Wording(
            550,
            "5.5.3",
            "A message has at most {most} recipients: the whole message is refused",
        ),
        "defer": Wording(
            452,
            "4.5.3",
            "A message has at most {most} recipients: send the rest in another message",
        ),
        # at DATA, when it does not defer
        "message": Wording(
            554,
            "5.5.3",
            "Not sent to any recipient: {surplus} more than the {most} that a message may have",
        ),
    },
    _R.MESSAGE_TOO_BIG: {"": Wording(552, "5.3.4", "A message has at most {octets} octets")},
    _R.MALFORMED_MESSAGE: {
        "": Wording(550, "5.6.0", "{fault}"),
        "nul": Wording(550, "5.6.0", "The message contains a NUL octet"),
        "line": Wording(
            550,
            "5.6.0",
            "A line of the body is longer than {octets} octets (RFC 5322 section 2.1.1):"
            " encode it as quoted-printable or base64",
        ),
        "signed": Wording(
            550,
            "5.6.0",
            "A line of the body is longer than {octets} octets (RFC 5322 section 2.1.1), and the"
            " message is signed: encode it before it is signed",
        ),
    },
    _R.BARE_NEWLINE: {
        "": Wording(550, "5.6.0", "A line ends in a bare CR or LF: end every line with CR LF")
    },
    _R.MAIL_LOOP: {
        "": Wording(554, "5.4.6", "Mail loop: {hops} Received headers, more than {most}")
    },
    _R.RATE_LIMITED: {
        "": Wording(
            451,
            "4.7.1",
            "Rate limit of {count} {unit} per {seconds:g} s for {whose} exceeded:"
            " try again in {wait} s",
        ),
        # by onLimit
        "reject": Wording(
            550,
            "5.7.1",
            "Rate limit of {count} {unit} per {seconds:g} s for {whose} exceeded:"
            " try again in {wait} s",
        ),
    },
    # --- our own state
    _R.INSUFFICIENT_STORAGE: {"": Wording(452, "4.3.1", "Insufficient storage; try again later")},
    _R.TOO_MUCH_IN_FLIGHT: {
        "": Wording(452, "4.3.1", "Too many messages are being received: try again soon"),
        "login": Wording(
            421,
            "4.3.1",
            "Too much pipelined input before the reply to AUTH: try again later",
        ),
    },
    _R.SPOOL_FAILED: {
        "": Wording(451, "4.3.0", "The message could not be stored: try again later")
    },
}
