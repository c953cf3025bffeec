"""Every reason word of the gateway: the same in the reply's log line, the metric label, `/status`
and the docs.

Each word has one sentence for the person who meets it; docs/reference/reasons.md is generated from
here.
"""

from __future__ import annotations

from enum import StrEnum


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
    TOO_MANY_CONNECTIONS = "TooManyConnections", "The listener serves as many sessions as it may."
    SHUTTING_DOWN = "ShuttingDown", "The gateway is stopping; another replica takes the mail."
    IDLE_TIMEOUT = "IdleTimeout", "The client was silent for too long."
    TOO_MANY_ERRORS = "TooManyErrors", "The client made more errors than one session may."
    SYNTAX = "Syntax", "The command or its argument is not SMTP (RFC 5321)."
    LINE_TOO_LONG = (
        "LineTooLong",
        "A command line is longer than RFC 5321 section 4.5.3.1.4 allows.",
    )
    BAD_SEQUENCE = (
        "BadSequence",
        "The command came at the wrong time, for example RCPT before MAIL.",
    )
    NOT_SMTP = "NotSmtp", "An HTTP request came to an SMTP port; the connection was closed."
    UNSUPPORTED_PARAMETER = "UnsupportedParameter", "MAIL or RCPT had a parameter we do not offer."
    COMMAND_UNKNOWN = "CommandUnknown", "The command is unknown or not implemented."
    INTERNAL_ERROR = "InternalError", "An error of ours; the client may try again."
    # --- on the way in: who
    TLS_REQUIRED = (
        "TlsRequired",
        "The listener takes mail and logins over TLS only: STARTTLS first.",
    )
    TLS_FAILED = "TlsFailed", "The TLS handshake with the client did not succeed."
    AUTH_REQUIRED = "AuthRequired", "The listener takes mail only after AUTH."
    AUTH_FAILED = "AuthFailed", "Unknown username or wrong password."
    LOGIN_REVOKED = (
        "LoginRevoked",
        "The login was revoked, or its password changed, in mid-session.",
    )
    AUTH_BUSY = (
        "AuthBusy",
        "More logins are waiting to be checked than may, most of them of this client; try again.",
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
    MESSAGE_TOO_BIG = "MessageTooBig", "More octets than `limits.message.maxSize`."
    MALFORMED_MESSAGE = "MalformedMessage", "The message breaks RFC 5322 in a way we do not repair."
    BARE_NEWLINE = "BareNewline", "A line ends in a bare CR or LF, as in SMTP smuggling."
    MAIL_LOOP = "MailLoop", "The message has more Received headers than any honest path has."
    RATE_LIMITED = "RateLimited", "A limit of `limits.rates` is used up; the reply says until when."
    # --- on the way in: our own state
    INSUFFICIENT_STORAGE = (
        "InsufficientStorage",
        "The spool is below its low-water mark of free space.",
    )
    TOO_MUCH_IN_FLIGHT = (
        "TooMuchInFlight",
        "More octets are being received than memory is set aside for.",
    )
    SPOOL_FAILED = "SpoolFailed", "The spool could not store the message; it was not accepted."
    # --- on the way out: the message
    DELIVERED = "Delivered", "The upstream answered 250 to the final dot."
    UPSTREAM_DEFERRED = "UpstreamDeferred", "The upstream answered 4xx; the message is tried again."
    UPSTREAM_REJECTED = "UpstreamRejected", "The upstream answered 5xx; the message has failed."
    UPSTREAM_DOUBTED = (
        "UpstreamDoubted",
        "The upstream answered 5xx to MAIL without a cause we know; it is tried once more.",
    )
    UPSTREAM_THROTTLED = (
        "UpstreamThrottled",
        "The upstream asked for fewer messages or connections; delivery to it slows down.",
    )
    UPSTREAM_TOO_MANY_RECIPIENTS = (
        "UpstreamTooManyRecipients",
        "The upstream takes no more recipients in one transaction; the rest follows at once.",
    )
    ADDRESS_UNSENDABLE = (
        "AddressUnsendable",
        "The address cannot be put into an SMTP command of this upstream (RFC 5321, RFC 6531).",
    )
    GAVE_UP = "GaveUp", "The message was tried for as long as `retry.giveUpAfter` says."
    REPLY_LOST = "ReplyLost", "The final reply never came: the message may have been taken."
    LEASE_FOUND = (
        "LeaseFound",
        "The gateway died during an attempt: the message may have been taken.",
    )
    NOT_STARTED = "NotStarted", "The lease was given back before its attempt began."
    CONNECTION_LOST = "ConnectionLost", "The connection broke before the message was handed over."
    # --- on the way out: the upstream
    UPSTREAM_UNREACHABLE = "UpstreamUnreachable", "No connection to any host of the upstream."
    UPSTREAM_UNRESOLVED = "UpstreamUnresolved", "No host of the upstream has an address in DNS."
    UPSTREAM_TIMEOUT = "UpstreamTimeout", "The upstream was silent past a deadline."
    UPSTREAM_TLS_FAILED = (
        "UpstreamTlsFailed",
        "TLS with the upstream failed: certificate, name or handshake.",
    )
    UPSTREAM_TLS_MISSING = (
        "UpstreamTlsMissing",
        "The upstream does not offer STARTTLS, and we insist.",
    )
    UPSTREAM_AUTH_FAILED = "UpstreamAuthFailed", "The upstream refused our login."
    UPSTREAM_AUTH_MISSING = (
        "UpstreamAuthMissing",
        "The upstream offers no AUTH mechanism that we speak.",
    )
    UPSTREAM_TLS_REQUIRED = (
        "UpstreamTlsRequired",
        "The upstream takes mail over TLS only, and `tls.mode` is None.",
    )
    UPSTREAM_REFUSED = (
        "UpstreamRefused",
        "The upstream refuses us: the session, our address or name, relaying, or everybody alike.",
    )
    UPSTREAM_QUOTA_EXCEEDED = (
        "UpstreamQuotaExceeded",
        "A sending quota at the provider is used up; the mail waits until it frees.",
    )
    UPSTREAM_ACCOUNT_BLOCKED = (
        "UpstreamAccountBlocked",
        "The provider has blocked or not yet activated the account that we send with.",
    )
    UPSTREAM_PROTOCOL_ERROR = (
        "UpstreamProtocolError",
        "The upstream answered something that is not SMTP.",
    )
    UPSTREAM_KIND_UNKNOWN = (
        "UpstreamKindUnknown",
        "The gateway is older than its configuration and does not know this kind of upstream or"
        " of its login.",
    )
    UPSTREAM_GONE = "UpstreamGone", "The message's route names no upstream that is configured."
    SUSPENDED = "Suspended", "The relay is suspended: mail is accepted and waits."
