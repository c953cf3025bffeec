"""The plan of a MailDomain, a kind that is not supported yet. Pure."""

from __future__ import annotations

from datetime import datetime

from mailrelay_operator.api.conditions import Verdict
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Plan
from mailrelay_operator.plan.objects import Manifest, generation_of
from mailrelay_operator.plan.status import (
    domain_status_of,
    judged,
    ready,
    transitions,
    written,
)
from mailrelay_operator.plan.verdicts import Trouble, read_domain


def plan_domain(domain: Manifest, *, now: datetime) -> Plan:
    """A status that says what is wrong, or that MailDomain is not supported yet."""
    found = read_domain(domain)
    waiting = Verdict(
        status="Unknown", reason=Reason.PENDING, message="The MailDomain is not accepted."
    )
    if isinstance(found, Trouble):
        accepted = found.verdict()
    else:
        accepted = Verdict(status="True", reason=Reason.ACCEPTED, message=Reason.ACCEPTED.sentence)
    verdicts = {"Accepted": accepted, "KeysReady": waiting, "DNSVerified": waiting}
    verdicts["Ready"] = ready(verdicts, ("Accepted", "KeysReady"), otherwise=waiting)
    old = domain_status_of(domain)
    generation = generation_of(domain)
    conditions = judged("MailDomain", old.conditions, verdicts, generation=generation, now=now)
    status = old.model_copy(update={"conditions": conditions, "observed_generation": generation})
    return Plan(
        actions=(
            *written(domain, status, old),
            *transitions(domain, old.conditions, conditions),
        )
    )
