"""The plans of a relay and all its senders in one step, for standalone use and for showing what
would be applied to a cluster. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mailrelay_operator.plan.actions import Action, RelayPlan
from mailrelay_operator.plan.credentials import Credentials
from mailrelay_operator.plan.facts import (
    Absence,
    Lookup,
    Material,
    RelayFacts,
    SeenSender,
    SenderLogin,
    SenderMaterial,
    Wanted,
)
from mailrelay_operator.plan.relay import plan_relay, plan_without_relay
from mailrelay_operator.plan.sender import SenderFacts, look, plan_sender, secret_to_read
from mailrelay_operator.plan.senders import sender_uid
from mailrelay_operator.plan.succession import trusted_by
from mailrelay_operator.plan.survey import survey, wanted
from mailrelay_operator.plan.verdicts import Complaint
from mailrelay_operator.plan.view import RelayView


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The relay's plan and all actions, in order. `look_again_at` is when a password ends."""

    relay: RelayPlan
    actions: tuple[Action, ...] = ()
    problems: tuple[Complaint, ...] = ()
    look_again_at: datetime | None = None


def plan_together(
    facts: RelayFacts,
    *,
    mint: Callable[[Wanted], Material],
    mint_for: Callable[[str, Credentials], SenderMaterial],
) -> Together:
    """Plan the relay, then each admitted sender, then the relay again with their logins. `mint_for`
    gets a sender's UID. Every sender counts as known to the gateways."""
    if facts.relay is None:
        missing = plan_without_relay(facts)
        return Together(relay=missing, problems=missing.problems)
    found = survey(facts, facts.relay)
    material = mint(wanted(found))
    first = plan_relay(found, material)
    looked = {
        sender_uid(one.manifest): _look(facts, one, first.view)
        for one in facts.senders
        if sender_uid(one.manifest) in first.view.admissions
    }
    minted = {uid: mint_for(uid, credentials) for uid, (_, credentials) in looked.items()}
    logins: dict[str, SenderLogin] = {}
    for uid, (seen, credentials) in looked.items():
        plan = plan_sender(seen, credentials, minted[uid])
        if plan.login is not None:
            logins[uid] = plan.login
    trusted = {uid: trusted_by(seen.secret) for uid, (seen, _) in looked.items()}
    informed = replace(facts, logins=logins, trusted=_known(trusted))
    relay = plan_relay(survey(informed, facts.relay), material)
    view = replace(
        relay.view,
        known=frozenset(uid for uid, one in relay.view.admissions.items() if one.entry is not None),
    )
    actions, problems = list(relay.actions), list(relay.problems)
    ends: list[datetime] = []
    for uid, (seen, _) in looked.items():
        again = replace(seen, view=view, login=logins.get(uid))
        plan = plan_sender(again, look(again), minted[uid])
        actions += plan.actions
        problems += plan.problems
        ends += [plan.look_again_at] if plan.look_again_at is not None else []
    return Together(
        relay=replace(relay, view=view),
        actions=tuple(actions),
        problems=tuple(problems),
        look_again_at=min(ends, default=None),
    )


def _known(found: Mapping[str, str | None]) -> dict[str, str]:
    return {uid: one for uid, one in found.items() if one is not None}


def _look(facts: RelayFacts, seen: SeenSender, view: RelayView) -> tuple[SenderFacts, Credentials]:
    key = secret_to_read(view, seen.manifest)
    secret: Lookup = Absence.MISSING
    if key is not None:
        secret = facts.objects.get(key, Absence.MISSING)
    about = SenderFacts(
        manifest=seen.manifest, model=seen.model, view=view, now=facts.now, secret=secret
    )
    return about, look(about)
