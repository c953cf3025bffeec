"""Every reason word of the operator: the same in conditions, Events, metrics, `mailrelay up` and
the docs. Pure.

Each reason lists the conditions it is used on and says what to do. A reason that the gateway also
uses means the same there. docs/reference/reasons.md is generated from here.

Over 500 lines because an enumeration is one class.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The reason of a condition. `.conditions` are the types it is used on, `.sentence`
    explains it.
    """

    conditions: tuple[str, ...]
    sentence: str

    def __new__(cls, word: str, conditions: str, sentence: str) -> Reason:
        """Make the member `word` with its conditions and explanation."""
        member = str.__new__(cls, word)
        member._value_ = word
        member.conditions = tuple(conditions.split())
        member.sentence = sentence
        return member

    # --- any condition
    PENDING = (
        "Pending",
        "Accepted ResolvedRefs Programmed Durable UpstreamReachable Deliverable KeysReady"
        " DNSVerified Ready",
        (
            "The operator has not seen the object yet. If this persists, the operator is not"
            " running"
            " or does not watch the namespace."
        ),
    )

    FORBIDDEN = (
        "Forbidden",
        "Accepted ResolvedRefs Programmed",
        (
            "RBAC does not allow the operator to read or write an object; the message names it. Add"
            " its namespace to watchNamespaces, or grant the permission to the operator's role."
        ),
    )

    # --- Accepted
    ACCEPTED = "Accepted", "Accepted", "The object is valid and in effect."
    INVALID = (
        "Invalid",
        "Accepted",
        "A field breaks a rule; the message names it. The last accepted spec stays in effect.",
    )
    UNSUPPORTED = (
        "Unsupported",
        "Accepted",
        (
            "The spec uses fields that this version does not support; the message names them."
            " Remove"
            " them. The last accepted spec stays in effect."
        ),
    )
    RELAY_NOT_FOUND = (
        "RelayNotFound",
        "Accepted",
        "The MailRelay in relayRef does not exist; create it or correct the name.",
    )
    RELAY_NOT_ACCEPTED = (
        "RelayNotAccepted",
        "Accepted",
        "The MailRelay in relayRef has never been accepted; see its conditions.",
    )
    RELAY_NOT_WATCHED = (
        "RelayNotWatched",
        "Accepted",
        (
            "The operator does not watch relayRef.namespace: correct it, or add that namespace to"
            " watchNamespaces."
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
            "The MailRelay's allowedSenders do not allow this namespace an address in from; the"
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
            "A username of the form NAMESPACE.NAME is reserved for that namespace; choose another"
            " in the"
            " Secret."
        ),
    )
    RELAY_FULL = (
        "RelayFull",
        "Accepted Programmed",
        (
            "The relay's configuration has no room for this MailSender; delete others, or create"
            " another MailRelay."
        ),
    )
    CONFLICTED = "Conflicted", "Accepted", "An older MailDomain of this relay has the same domain."

    # --- ResolvedRefs
    RESOLVED_REFS = (
        "ResolvedRefs",
        "ResolvedRefs",
        "All references are resolved.",
    )
    SECRET_NOT_FOUND = (
        "SecretNotFound",
        "ResolvedRefs",
        "A referenced Secret does not exist; the message names it.",
    )
    SECRET_NOT_PERMITTED = (
        "SecretNotPermitted",
        "ResolvedRefs",
        (
            "A referenced Secret is not marked as credentials: add the label"
            ' mailrelay.dev/credentials: "true". Its type alone is not enough, or any Git'
            " credential could be sent to any smarthost."
        ),
    )
    SECRET_INVALID = (
        "SecretInvalid",
        "ResolvedRefs",
        ("A referenced Secret lacks a key, or its value is not valid; the message names the key."),
    )
    CONFIG_MAP_NOT_FOUND = (
        "ConfigMapNotFound",
        "ResolvedRefs",
        "A referenced ConfigMap does not exist; the message names it.",
    )
    CONFIG_MAP_INVALID = (
        "ConfigMapInvalid",
        "ResolvedRefs",
        (
            "A referenced ConfigMap lacks a key, or its value is not valid; the message names the"
            " key."
        ),
    )
    AUDIENCE_NOT_ALLOWED = (
        "AudienceNotAllowed",
        "ResolvedRefs",
        (
            "A login uses a ServiceAccount token with an audience that the platform does not"
            " allow: add it to the chart's tokenAudiences."
        ),
    )
    CERTIFICATE_INVALID = (
        "CertificateInvalid",
        "ResolvedRefs",
        "A referenced certificate is not PEM, has expired, or does not match its key.",
    )
    CERTIFICATE_NAME_MISMATCH = (
        "CertificateNameMismatch",
        "ResolvedRefs",
        (
            "The certificate is not valid for the name that MailSenders get as host: set"
            " service.hostname to a name in the certificate that resolves to the Service."
        ),
    )

    NO_LOGIN_LISTENER = (
        "NoLoginListener",
        "ResolvedRefs",
        "The relay has no SMTP listener with TLS, so no client can log in; add one.",
    )

    # --- Programmed
    PROGRAMMED = "Programmed", "Programmed", "Every replica runs this configuration."
    NOT_OWNED = (
        "NotOwned",
        "Accepted Programmed",
        (
            "An object of the required name exists and does not belong to mailrelay. It is not"
            " changed: rename it, or choose another name here."
        ),
    )
    DAMAGED = (
        "Damaged",
        "ResolvedRefs Programmed",
        (
            "An object written by mailrelay is damaged; the message names it and what is missing."
            " It is not changed: restore it from a backup."
        ),
    )
    APPLY_FAILED = (
        "ApplyFailed",
        "Programmed",
        "The API server rejected an object; the message quotes it. The operator retries.",
    )
    CONFIGURATION_TOO_BIG = (
        "ConfigurationTooBig",
        "Programmed",
        (
            "The relay's own part of the configuration exceeds the size of a Secret; split the"
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
            "A replica rejected the newest configuration and runs the previous one; the message"
            " quotes it."
        ),
    )
    LISTENER_NOT_SERVING = (
        "ListenerNotServing",
        "Programmed",
        (
            "A replica runs the newest configuration but cannot bind the port of a listener; it"
            " retries. The message quotes it."
        ),
    )
    REPLICAS_PENDING = (
        "ReplicasPending",
        "Programmed",
        "Fewer pods run than desired; see the StatefulSet's pods and their Events.",
    )
    GATEWAY_UNREACHABLE = (
        "GatewayUnreachable",
        "Programmed",
        (
            "A replica did not answer on its admin port within the deadline, so its configuration"
            " is"
            " unknown."
        ),
    )
    SCALE_DOWN_BLOCKED = (
        "ScaleDownBlocked",
        "Programmed",
        (
            "spec.replicas is lower than the number of running replicas. The last one's queue may"
            " hold mail, so none is removed: set replicas back."
        ),
    )
    VOLUME_CANNOT_SHRINK = (
        "VolumeCannotShrink",
        "Programmed",
        (
            "queue.storage.size is smaller than the existing claims, and a volume cannot shrink:"
            " set"
            " it to at least the size in the message."
        ),
    )
    VOLUME_CANNOT_GROW = (
        "VolumeCannotGrow",
        "Programmed",
        (
            "The StorageClass does not allow volume expansion: set queue.storage.size back to the"
            " size in the message."
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
            "A volume of an earlier relay of this name exists beyond the replicas and may hold"
            " mail."
            " Raise replicas to deliver it, or delete the claim if it is not needed."
        ),
    )
    RELAY_NOT_PROGRAMMED = (
        "RelayNotProgrammed",
        "Programmed",
        "Not every replica of the relay has this MailSender yet.",
    )

    # --- Durable
    SPOOL_PERSISTENT = "SpoolPersistent", "Durable", "Messages are queued on persistent volumes."
    SPOOL_EPHEMERAL = (
        "SpoolEphemeral",
        "Durable",
        (
            "With queue.ephemeral, messages are queued in the pod's own file system and are lost"
            " with the pod."
        ),
    )

    # --- UpstreamReachable
    NOT_TRIED = (
        "NotTried",
        "UpstreamReachable",
        "No mail has been sent yet.",
    )
    REACHABLE = (
        "Reachable",
        "UpstreamReachable",
        "The last attempt at each upstream reached the mail transaction.",
    )
    SUSPENDED = (
        "Suspended",
        "UpstreamReachable Ready",
        "The object is suspended by its spec: mail is accepted and stays queued.",
    )
    UPSTREAM_HELD = (
        "UpstreamHeld",
        "UpstreamReachable",
        "An upstream refuses mail; its queue is held. The message quotes the upstream's reply.",
    )
    UPSTREAM_AUTH_FAILED = (
        "UpstreamAuthFailed",
        "UpstreamReachable",
        "An upstream refuses the login; its queue is held. Correct the Secret.",
    )
    UPSTREAM_AUTH_MISSING = (
        "UpstreamAuthMissing",
        "UpstreamReachable",
        "An upstream offers no supported AUTH mechanism; its queue is held.",
    )
    UPSTREAM_TOKEN_REFUSED = (
        "UpstreamTokenRefused",
        "UpstreamReachable",
        (
            "The token endpoint of an upstream's login rejects the credentials; its queue is held."
            " The message quotes the endpoint: correct the Secret, the client ID or the"
            " registration at the provider."
        ),
    )
    UPSTREAM_TOKEN_UNAVAILABLE = (
        "UpstreamTokenUnavailable",
        "UpstreamReachable",
        (
            "The token endpoint of an upstream's login cannot be reached or fails, and the last"
            " access token has expired; its queue is held."
        ),
    )
    UPSTREAM_TOKEN_URL_NOT_ALLOWED = (
        "UpstreamTokenUrlNotAllowed",
        "UpstreamReachable",
        (
            "The gateway may not connect to the token endpoint of an upstream's login; its queue is"
            " held. Addresses that are not public must be inside the chart's"
            " allowedEgressCIDRs."
        ),
    )
    UPSTREAM_UNREACHABLE = (
        "UpstreamUnreachable",
        "UpstreamReachable",
        "No host of an upstream accepts connections; its queue is held.",
    )
    UPSTREAM_UNRESOLVED = (
        "UpstreamUnresolved",
        "UpstreamReachable",
        "No host of an upstream has an address in DNS; its queue is held.",
    )
    UPSTREAM_TIMEOUT = (
        "UpstreamTimeout",
        "UpstreamReachable",
        "An upstream did not answer within a deadline; its queue is held.",
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
        "An upstream does not offer STARTTLS; its queue is held.",
    )
    UPSTREAM_REFUSED = (
        "UpstreamRefused",
        "UpstreamReachable",
        "An upstream refuses the relay (session, address, name, relaying) rather than a message;"
        " its queue is held.",
    )
    UPSTREAM_TLS_REQUIRED = (
        "UpstreamTlsRequired",
        "UpstreamReachable",
        "An upstream accepts mail over TLS only; its queue is held. Set tls.mode.",
    )
    UPSTREAM_QUOTA_EXCEEDED = (
        "UpstreamQuotaExceeded",
        "UpstreamReachable",
        "A sending quota at a provider is exhausted; its queue is held until it is replenished.",
    )
    UPSTREAM_ACCOUNT_BLOCKED = (
        "UpstreamAccountBlocked",
        "UpstreamReachable",
        "A provider has blocked, or not yet activated, the account; its queue is held.",
    )
    UPSTREAM_PROTOCOL_ERROR = (
        "UpstreamProtocolError",
        "UpstreamReachable",
        "An upstream's replies are not SMTP; its queue is held.",
    )
    UPSTREAM_KIND_UNKNOWN = (
        "UpstreamKindUnknown",
        "UpstreamReachable",
        "A gateway older than the operator does not know the kind of an upstream or of its"
        " login; the queue is held until the gateway is upgraded.",
    )
    NO_ROUTE = (
        "NoRoute",
        "UpstreamReachable",
        "Mail is queued that no route matches, or whose route has no usable upstream. Add a route"
        " that matches it, or complete its upstream; the mail is then sent by itself.",
    )
    EGRESS_BLOCKED = (
        "EgressBlocked",
        "UpstreamReachable",
        (
            "Connections to an upstream's port are blocked, as clouds do with port 25: use 587,"
            " 465 or 2525."
        ),
    )

    # --- Deliverable
    DELIVERABLE = (
        "Deliverable",
        "Deliverable",
        "No upstream or receiver has refused the sender's domain, address or tenant lately.",
    )
    SENDER_DOMAIN_REJECTED = (
        "SenderDomainRejected",
        "Deliverable",
        (
            "A receiver refuses the sender's domain: SPF, DKIM, DMARC, reverse DNS, TLS or its"
            " rules for bulk mail. The message quotes the reply: mend the domain's DNS records. It"
            " ends with the next message that is accepted, or after a day."
        ),
    )
    SENDER_NOT_VERIFIED = (
        "SenderNotVerified",
        "Deliverable",
        (
            "The account at the upstream may not send as the sender's address or domain. The"
            " message quotes the reply: verify the address or domain at the provider, or change the"
            " MailSender's from. It ends with the next message that is accepted, or after a day."
        ),
    )

    UPSTREAM_TENANT_PAUSED = (
        "UpstreamTenantPaused",
        "Deliverable",
        (
            "The provider has paused this tenant. The mail of its namespace is held at that"
            " upstream, or takes the next one of its route; nothing is bounced. The message quotes"
            " the reply; the tenant is tried again every ten minutes."
        ),
    )
    ATTRIBUTION_INVALID = (
        "AttributionInvalid",
        "Deliverable",
        (
            "The upstream cannot be told whose mail it gets: a value of attribution is not 1 to 64"
            " letters, digits, hyphens and underscores. The mail of the namespace is held at that"
            " upstream. Change the MailSender's name, or the relay's attribution."
        ),
    )

    # --- Ready
    READY = "Ready", "Ready", "Mail can be submitted."
    NOT_READY = (
        "NotReady",
        "Ready",
        (
            "Another cause keeps the object from being ready; the message names it. If a condition"
            " is not True, Ready has that condition's reason."
        ),
    )
    NO_READY_REPLICA = (
        "NoReadyReplica",
        "Ready",
        "No pod of the relay is ready; see the StatefulSet's pods.",
    )

    # --- Events only
    AUTHORITY_REPLACED = (
        "AuthorityReplaced",
        "",
        "Another CA of the relay issues its certificates; the message says whether clients must"
        " load `ca.crt` again.",
    )
    CREDENTIAL_REVOKED = (
        "CredentialRevoked",
        "",
        "A password was revoked: its Secret was deleted, or a revocation was requested.",
    )

    # --- MailDomain
    KEYS_READY = "KeysReady", "KeysReady", "Every DKIM key exists."
    DNS_VERIFIED = "DNSVerified", "DNSVerified", "All required records exist in DNS."
    RECORDS_MISSING = (
        "RecordsMissing",
        "DNSVerified",
        "Records are missing or differ; status.records says what to copy into DNS.",
    )
