"""Every reason word of the operator: the same in conditions, Events, metrics, `mailrelay up` and
the docs. Pure.

Each word says on which conditions it stands and what to do. A word that the gateway uses too means
the same there. docs/reference/reasons.md is generated from here.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a condition is as it is. `.conditions` are the types it stands on, `.sentence`
    explains it.
    """

    conditions: tuple[str, ...]
    sentence: str

    def __new__(cls, word: str, conditions: str, sentence: str) -> Reason:
        """Make the member `word`, with its explanation beside it."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.conditions = tuple(conditions.split())
        member.sentence = sentence
        return member

    # --- any condition
    PENDING = (
        "Pending",
        "Accepted ResolvedRefs Programmed Durable UpstreamReachable KeysReady DNSVerified Ready",
        (
            "Nothing has looked at the object yet. If it stays so, the operator is not running or"
            " does not watch its namespace."
        ),
    )

    FORBIDDEN = (
        "Forbidden",
        "Accepted ResolvedRefs Programmed",
        (
            "The operator may not read or write an object; the message names it. Add its namespace"
            " to watchNamespaces, or give the operator's role the right that is lacking."
        ),
    )

    # --- Accepted
    ACCEPTED = "Accepted", "Accepted", "The object is valid and is acted upon."
    INVALID = (
        "Invalid",
        "Accepted",
        "A field breaks a rule; the message names it. The last accepted spec stays in effect.",
    )
    UNSUPPORTED = (
        "Unsupported",
        "Accepted",
        (
            "Fields are used that this version does not support; the message names them all. Remove"
            " them. The last accepted spec stays in effect."
        ),
    )
    RELAY_NOT_FOUND = (
        "RelayNotFound",
        "Accepted",
        "There is no MailRelay of the name in relayRef; create it or correct the name.",
    )
    RELAY_NOT_ACCEPTED = (
        "RelayNotAccepted",
        "Accepted",
        "The MailRelay in relayRef has never been accepted; look at its own conditions.",
    )
    RELAY_NOT_WATCHED = (
        "RelayNotWatched",
        "Accepted",
        (
            "relayRef.namespace is not among the namespaces that the operator watches: correct it,"
            " or add that namespace to watchNamespaces."
        ),
    )
    NAMESPACE_NOT_ALLOWED = (
        "NamespaceNotAllowed",
        "Accepted",
        "The MailRelay's allowedSenders admit no MailSender of this namespace; ask its owner.",
    )
    ADDRESS_NOT_ALLOWED = (
        "AddressNotAllowed",
        "Accepted",
        (
            "An address in from is not among those that allowedSenders give this namespace; the"
            " message names it."
        ),
    )
    USERNAME_TAKEN = (
        "UsernameTaken",
        "Accepted",
        "An older MailSender of this relay has the same username; choose another in the Secret.",
    )
    USERNAME_RESERVED = (
        "UsernameReserved",
        "Accepted",
        (
            "A username of the form NAMESPACE.NAME belongs to that namespace; choose another in the"
            " Secret."
        ),
    )
    RELAY_FULL = (
        "RelayFull",
        "Accepted Programmed",
        (
            "The relay's configuration has no room for this MailSender; delete others, or make"
            " another MailRelay."
        ),
    )
    CONFLICTED = "Conflicted", "Accepted", "An older MailDomain of this relay has the same domain."

    # --- ResolvedRefs
    RESOLVED_REFS = (
        "ResolvedRefs",
        "ResolvedRefs",
        "Every object referred to was found and can be used.",
    )
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "ResolvedRefs",
        "A Secret referred to does not exist; the message names it.",
    )
    SECRET_NOT_PERMITTED = (
        "SecretNotPermitted",
        "ResolvedRefs",
        (
            "A Secret referred to is not marked as a login: give it the label"
            ' mailrelay.dev/credentials: "true". Its type alone does not suffice, or any Git'
            " credential could be sent to any smarthost."
        ),
    )
    SECRET_INVALID = (
        "SecretInvalid",
        "ResolvedRefs",
        (
            "A Secret referred to lacks a key or holds something else than is expected; the message"
            " names the key."
        ),
    )
    CONFIG_MAP_NOT_FOUND = (
        "ConfigMapNotFound",
        "ResolvedRefs",
        "A ConfigMap referred to does not exist; the message names it.",
    )
    CONFIG_MAP_INVALID = (
        "ConfigMapInvalid",
        "ResolvedRefs",
        (
            "A ConfigMap referred to lacks a key or holds something else than is expected; the"
            " message names the key."
        ),
    )
    AUDIENCE_NOT_ALLOWED = (
        "AudienceNotAllowed",
        "ResolvedRefs",
        (
            "A login asks for a ServiceAccount token of an audience that the platform does not"
            " allow: have it put into tokenAudiences of the chart."
        ),
    )
    CERTIFICATE_INVALID = (
        "CertificateInvalid",
        "ResolvedRefs",
        "A certificate referred to is not PEM, has expired, or does not belong to its key.",
    )
    CERTIFICATE_NAME_MISMATCH = (
        "CertificateNameMismatch",
        "ResolvedRefs",
        (
            "The certificate does not carry the name that MailSenders are given as host: set"
            " service.hostname to a name that it carries and that resolves to the Service."
        ),
    )

    NO_LOGIN_LISTENER = (
        "NoLoginListener",
        "ResolvedRefs",
        "The relay has no SMTP listener with TLS, so nobody can log in; add one.",
    )

    # --- Programmed
    PROGRAMMED = "Programmed", "Programmed", "Every replica runs this configuration."
    NOT_OWNED = (
        "NotOwned",
        "Accepted Programmed",
        (
            "An object of a name that is needed exists and was not made by mailrelay. It is left"
            " alone: rename it, or choose another name here."
        ),
    )
    DAMAGED = (
        "Damaged",
        "ResolvedRefs Programmed",
        (
            "An object of mailrelay's own cannot be read; the message names it and what is lacking."
            " It is left as it is: restore it from a backup."
        ),
    )
    APPLY_FAILED = (
        "ApplyFailed",
        "Programmed",
        "The API server refused an object; the message is its own. It is tried again.",
    )
    CONFIGURATION_TOO_BIG = (
        "ConfigurationTooBig",
        "Programmed",
        (
            "The relay's own part of the configuration is larger than a Secret may be; split the"
            " MailRelay."
        ),
    )
    CONFIGURATION_PENDING = (
        "ConfigurationPending",
        "Programmed",
        "Not every replica runs the newest configuration yet; this takes seconds.",
    )
    CONFIGURATION_REFUSED = (
        "ConfigurationRefused",
        "Programmed",
        (
            "A replica cannot use the newest configuration and runs the one before; the message is"
            " its own."
        ),
    )
    LISTENER_NOT_SERVING = (
        "ListenerNotServing",
        "Programmed",
        (
            "A replica runs the newest configuration and cannot open the port of a listener; it"
            " tries again. The message is its own."
        ),
    )
    REPLICAS_PENDING = (
        "ReplicasPending",
        "Programmed",
        "Fewer pods run than asked for; look at the StatefulSet's pods and their events.",
    )
    GATEWAY_UNREACHABLE = (
        "GatewayUnreachable",
        "Programmed",
        (
            "A replica did not answer on its admin port within its deadline, so it is unknown what"
            " it runs."
        ),
    )
    SCALE_DOWN_BLOCKED = (
        "ScaleDownBlocked",
        "Programmed",
        (
            "Fewer replicas were asked for than run. Mail may lie in the last one's queue, so none"
            " is removed: set replicas back."
        ),
    )
    VOLUME_CANNOT_SHRINK = (
        "VolumeCannotShrink",
        "Programmed",
        (
            "queue.storage.size is below what the claims have, and a volume cannot shrink: set it"
            " to at least the size that the message names."
        ),
    )
    VOLUME_CANNOT_GROW = (
        "VolumeCannotGrow",
        "Programmed",
        (
            "The StorageClass does not allow its volumes to grow: set queue.storage.size back to"
            " the size that the message names."
        ),
    )
    SECRET_PENDING = (
        "SecretPending",
        "Programmed",
        "The MailSender's Secret is not written yet.",
    )
    QUEUE_STRANDED = (
        "QueueStranded",
        "Programmed",
        (
            "A volume of an earlier relay of this name exists beyond the replicas: mail may be in"
            " it. Raise replicas to have it delivered, or delete the claim if it is not needed."
        ),
    )
    RELAY_NOT_PROGRAMMED = (
        "RelayNotProgrammed",
        "Programmed",
        "Not every replica of the relay knows this MailSender yet.",
    )

    # --- Durable
    SPOOL_PERSISTENT = "SpoolPersistent", "Durable", "Messages wait on persistent volumes."
    SPOOL_EPHEMERAL = (
        "SpoolEphemeral",
        "Durable",
        (
            "As queue.ephemeral asks, messages wait in the pod's own file system and are lost with"
            " the pod."
        ),
    )

    # --- UpstreamReachable
    NOT_TRIED = (
        "NotTried",
        "UpstreamReachable",
        "No mail has been sent yet, so it is unknown whether it can be.",
    )
    REACHABLE = (
        "Reachable",
        "UpstreamReachable",
        "The last attempt at each upstream got as far as handing over mail.",
    )
    SUSPENDED = (
        "Suspended",
        "UpstreamReachable Ready",
        "The object is suspended by its spec: mail is accepted and waits.",
    )
    UPSTREAM_HELD = (
        "UpstreamHeld",
        "UpstreamReachable",
        "An upstream takes no mail; its queue waits. The message is the upstream's own reply.",
    )
    UPSTREAM_AUTH_FAILED = (
        "UpstreamAuthFailed",
        "UpstreamReachable",
        "An upstream refuses our login; its queue waits. Correct the Secret.",
    )
    UPSTREAM_AUTH_MISSING = (
        "UpstreamAuthMissing",
        "UpstreamReachable",
        "An upstream offers no AUTH mechanism that we speak; its queue waits.",
    )
    UPSTREAM_TOKEN_REFUSED = (
        "UpstreamTokenRefused",
        "UpstreamReachable",
        (
            "The token endpoint of an upstream's login refuses what we show; its queue waits. The"
            " message has the endpoint's own words: correct the Secret, the client ID or what is"
            " registered there."
        ),
    )
    UPSTREAM_TOKEN_UNAVAILABLE = (
        "UpstreamTokenUnavailable",
        "UpstreamReachable",
        (
            "The token endpoint of an upstream's login cannot be asked, or is in trouble, and the"
            " last access token has expired; its queue waits."
        ),
    )
    UPSTREAM_TOKEN_URL_NOT_ALLOWED = (
        "UpstreamTokenUrlNotAllowed",
        "UpstreamReachable",
        (
            "The gateway may not connect to the token endpoint of an upstream's login; its queue"
            " waits. Addresses that are not public have to be inside the chart's"
            " allowedEgressCIDRs."
        ),
    )
    UPSTREAM_UNREACHABLE = (
        "UpstreamUnreachable",
        "UpstreamReachable",
        "No host of an upstream can be connected to; its queue waits.",
    )
    UPSTREAM_UNRESOLVED = (
        "UpstreamUnresolved",
        "UpstreamReachable",
        "No host of an upstream has an address in DNS; its queue waits.",
    )
    UPSTREAM_TIMEOUT = (
        "UpstreamTimeout",
        "UpstreamReachable",
        "An upstream is silent past a deadline; its queue waits.",
    )
    UPSTREAM_TLS_FAILED = (
        "UpstreamTlsFailed",
        "UpstreamReachable",
        (
            "TLS with an upstream fails: certificate, name or handshake. For a private CA set"
            " tls.caRef."
        ),
    )
    UPSTREAM_TLS_MISSING = (
        "UpstreamTlsMissing",
        "UpstreamReachable",
        "An upstream does not offer STARTTLS; its queue waits.",
    )
    UPSTREAM_REFUSED = (
        "UpstreamRefused",
        "UpstreamReachable",
        "An upstream refuses us (session, address, name, relaying), not the mail; its queue waits.",
    )
    UPSTREAM_TLS_REQUIRED = (
        "UpstreamTlsRequired",
        "UpstreamReachable",
        "An upstream takes mail over TLS only; its queue waits. Set tls.mode.",
    )
    UPSTREAM_QUOTA_EXCEEDED = (
        "UpstreamQuotaExceeded",
        "UpstreamReachable",
        "A sending quota at a provider is used up; its queue waits until it frees.",
    )
    UPSTREAM_ACCOUNT_BLOCKED = (
        "UpstreamAccountBlocked",
        "UpstreamReachable",
        "A provider has blocked, or not yet activated, the account; its queue waits.",
    )
    UPSTREAM_PROTOCOL_ERROR = (
        "UpstreamProtocolError",
        "UpstreamReachable",
        "An upstream answers something that is not SMTP; its queue waits.",
    )
    UPSTREAM_KIND_UNKNOWN = (
        "UpstreamKindUnknown",
        "UpstreamReachable",
        "A gateway older than the operator does not know an upstream's kind or its login's; its"
        " queue waits until the gateway is updated.",
    )
    EGRESS_BLOCKED = (
        "EgressBlocked",
        "UpstreamReachable",
        (
            "No connection leaves the cluster on an upstream's port, as clouds block 25: use 587,"
            " 465 or 2525."
        ),
    )

    # --- Ready
    READY = "Ready", "Ready", "Mail can be submitted."
    NOT_READY = (
        "NotReady",
        "Ready",
        (
            "Something else keeps the object from being ready; the message says what. Where a"
            " condition is not True, Ready has that condition's reason."
        ),
    )
    NO_READY_REPLICA = (
        "NoReadyReplica",
        "Ready",
        "No pod of the relay is ready; look at the StatefulSet's pods.",
    )

    # --- Events only
    CREDENTIAL_REVOKED = (
        "CredentialRevoked",
        "",
        "A password no longer logs in: its Secret was deleted, or a revocation was asked for.",
    )

    # --- MailDomain
    KEYS_READY = "KeysReady", "KeysReady", "Every DKIM key exists."
    DNS_VERIFIED = "DNSVerified", "DNSVerified", "Every record that is needed was found in DNS."
    RECORDS_MISSING = (
        "RecordsMissing",
        "DNSVerified",
        "Records are missing or differ; status.records says what to copy into DNS.",
    )
