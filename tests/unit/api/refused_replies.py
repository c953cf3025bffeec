"""MailRelays whose rules about replies, or whose attribution, break a rule."""

from __future__ import annotations

from tests.unit.api.documents import HOSTS, sending_by
from tests.unit.api.refused import Bad, broken

BAD_REPLIES: tuple[Bad, ...] = (
    broken(
        "reply rule for all replies",
        sending_by(sandbox={}, replies=[{"name": "one", "outcome": "Failed"}]),
        "spec.upstreams[one].replies[0]",
        "Set at least one of code,",
    ),
    broken(
        "waiting after a failure",
        sending_by(
            sandbox={}, replies=[{"name": "one", "code": 550, "outcome": "Failed", "after": "1m"}]
        ),
        "spec.upstreams[one].replies[0].after",
        "Deferred and Held",
    ),
    broken(
        "waiting for an instant",
        sending_by(
            sandbox={},
            replies=[{"name": "one", "code": 450, "outcome": "Deferred", "after": "100ms"}],
        ),
        "spec.upstreams[one].replies[0].after",
        "from 1s to 24h",
    ),
    broken(
        "waiting for two days",
        sending_by(
            sandbox={}, replies=[{"name": "one", "code": 450, "outcome": "Held", "after": "48h"}]
        ),
        "spec.upstreams[one].replies[0].after",
        "from 1s to 24h",
    ),
    broken(
        "failing a message that is not there",
        sending_by(
            sandbox={}, replies=[{"name": "one", "stage": "AUTH", "code": 535, "outcome": "Failed"}]
        ),
        "spec.upstreams[one].replies[0].outcome",
        "must be Held",
    ),
    broken(
        "splitting at the final dot",
        sending_by(
            sandbox={},
            replies=[
                {"name": "one", "stage": "EndOfMessage", "code": 452, "outcome": "Split"},
            ],
        ),
        "spec.upstreams[one].replies[0].stage",
        "Split applies to replies to RCPT",
    ),
    broken(
        "text with an address",
        sending_by(
            sandbox={}, replies=[{"name": "one", "text": "no a@example.com", "outcome": "Failed"}]
        ),
        "spec.upstreams[one].replies[0].text",
        "without @, < and",
    ),
    broken(
        "text with a link",
        sending_by(
            sandbox={}, replies=[{"name": "one", "text": "https://example.com", "outcome": "Held"}]
        ),
        "spec.upstreams[one].replies[0].text",
        "without @, < and",
    ),
    broken(
        "strange enhanced code",
        sending_by(sandbox={}, replies=[{"name": "one", "enhanced": "9.9.9", "outcome": "Failed"}]),
        "spec.upstreams[one].replies[0].enhanced",
        "Write an enhanced status code as",
    ),
    broken(
        "same reply rule twice",
        sending_by(sandbox={}, replies=[{"name": "a", "code": 550, "outcome": "Failed"}] * 2),
        "spec.upstreams[one].replies",
        "Two reply rules have the same name",
    ),
    broken(
        "failing a namespace",
        sending_by(
            sandbox={},
            replies=[{"name": "one", "code": 550, "outcome": "Failed", "scope": "Namespace"}],
        ),
        "spec.upstreams[one].replies[0].scope",
        "needs the outcome Held",
    ),
    broken(
        "holding a namespace before MAIL",
        sending_by(
            sandbox={},
            replies=[
                {
                    "name": "one",
                    "stage": "AUTH",
                    "code": 535,
                    "outcome": "Held",
                    "scope": "Namespace",
                }
            ],
        ),
        "spec.upstreams[one].replies[0].scope",
        "needs the outcome Held",
    ),
    # --- attribution
    broken(
        "attribution by a field of the author's",
        sending_by(
            smarthost={"hosts": HOSTS}, attribution=[{"header": "Subject", "from": "Sender"}]
        ),
        "spec.upstreams[one].attribution[Subject].header",
        "begins with X-",
    ),
    broken(
        "attribution without its template",
        sending_by(smarthost={"hosts": HOSTS}, attribution=[{"header": "X-A", "from": "Template"}]),
        "spec.upstreams[one].attribution[X-A].template",
        "required with from: Template",
    ),
    broken(
        "attribution with a template too many",
        sending_by(
            smarthost={"hosts": HOSTS},
            attribution=[{"header": "X-A", "from": "Sender", "template": "a"}],
        ),
        "spec.upstreams[one].attribution[X-A].template",
        "required with from: Template",
    ),
    broken(
        "attribution by an unknown place",
        sending_by(
            smarthost={"hosts": HOSTS},
            attribution=[{"header": "X-A", "from": "Template", "template": "{relay}"}],
        ),
        "spec.upstreams[one].attribution[X-A].template",
        "{namespace} and {sender}",
    ),
    broken(
        "attribution twice in other cases",
        sending_by(
            smarthost={"hosts": HOSTS},
            attribution=[
                {"header": "X-A", "from": "Sender"},
                {"header": "x-a", "from": "Namespace"},
            ],
        ),
        "spec.upstreams[one].attribution",
        "set the same header",
    ),
    broken(
        "attribution of nothing",
        sending_by(sandbox={}, attribution=[{"header": "X-A", "from": "Sender"}]),
        "spec.upstreams[one].attribution",
        "A sandbox sends nothing",
    ),
    broken(
        "passing without a provider",
        sending_by(smarthost={"hosts": HOSTS}, passHeaders=["X-A"]),
        "spec.upstreams[one].passHeaders",
        "set smarthost.provider",
    ),
    broken(
        "passing what is set",
        sending_by(
            smarthost={"provider": "SES", "hosts": HOSTS},
            attribution=[{"header": "X-SES-TENANT", "from": "Sender"}],
            passHeaders=["x-ses-tenant"],
        ),
        "spec.upstreams[one].passHeaders",
        "cannot pass too",
    ),
)
