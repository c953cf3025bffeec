"""MailRelays whose API upstreams break a rule."""

from __future__ import annotations

from tests.unit.api.documents import sending_by
from tests.unit.api.refused import Bad, broken

_ROLE = "arn:aws:iam::111122223333:role/mail"
_SES = {"region": "eu-central-1", "credentials": {"webIdentity": {"roleARN": _ROLE}}}
_GRAPH = {
    "tenantID": "example.com",
    "clientID": "app",
    "credentials": {"federated": {}},
    "mailbox": "robot@example.com",
}

BAD_API_UPSTREAMS: tuple[Bad, ...] = (
    broken(
        "api of two providers",
        sending_by(api={"ses": _SES, "graph": _GRAPH}),
        "spec.upstreams[one].api",
        "exactly one of ses and graph",
    ),
    broken(
        "ses with two kinds of credentials",
        sending_by(
            api={
                "ses": _SES
                | {"credentials": {"webIdentity": {"roleARN": _ROLE}, "secretRef": {"name": "a"}}}
            }
        ),
        "spec.upstreams[one].api.ses.credentials",
        "exactly one of webIdentity and secretRef",
    ),
    broken(
        "ses in no region",
        sending_by(api={"ses": _SES | {"region": "Frankfurt"}}),
        "spec.upstreams[one].api.ses.region",
        "A region looks like eu-central-1",
    ),
    broken(
        "ses tenant with a blank",
        sending_by(api={"ses": _SES | {"tenant": "team a"}}),
        "spec.upstreams[one].api.ses.tenant",
        "Letters, digits, - and _ only.",
    ),
    broken(
        "a URL for a tenant ID",
        sending_by(api={"graph": _GRAPH | {"tenantID": "https://example.com"}}),
        "spec.upstreams[one].api.graph.tenantID",
        "A directory (tenant) ID is",
    ),
    broken(
        "a role's name for its ARN",
        sending_by(api={"ses": _SES | {"credentials": {"webIdentity": {"roleARN": "a" * 20}}}}),
        "spec.upstreams[one].api.ses.credentials.webIdentity.roleARN",
        "A role's ARN looks like",
    ),
    broken(
        "the API server's audience for STS",
        sending_by(
            api={
                "ses": _SES
                | {
                    "credentials": {
                        "webIdentity": {
                            "roleARN": _ROLE,
                            "audience": "https://kubernetes.default.svc",
                        }
                    }
                }
            }
        ),
        "spec.upstreams[one].api.ses.credentials.webIdentity.audience",
        "must not be that of the API server",
    ),
    broken(
        "mailrelay's audience for Entra ID",
        sending_by(
            api={
                "graph": _GRAPH
                | {"credentials": {"federated": {"audience": "mailrelay.dev/relay"}}}
            }
        ),
        "spec.upstreams[one].api.graph.credentials.federated.audience",
        "must not be that of the API server",
    ),
    broken(
        "graph without credentials",
        sending_by(api={"graph": _GRAPH | {"credentials": {}}}),
        "spec.upstreams[one].api.graph.credentials",
        "exactly one of federated and secretRef",
    ),
)
