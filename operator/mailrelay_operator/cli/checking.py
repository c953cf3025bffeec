"""Finds everything that is wrong with the files in one run, with file and line.

A mistake in one object does not hide those in others: references to an invalid object are checked
against what remains of it without its mistakes (`pruning`). What cannot be known because a part is
unreadable is not reported: each line is true, and each cause has one line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.parsing import KINDS, Resource, parse
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.api.unsupported import unsupported_remedy
from mailrelay_operator.cli.documents import FileProblem, Reading
from mailrelay_operator.cli.file_facts import of_relay
from mailrelay_operator.cli.inventory import (
    Inventory,
    Key,
    Place,
    Sorted,
    place_of,
    problem_of,
    relay_of,
    sort_documents,
)
from mailrelay_operator.cli.presets import thin_paces
from mailrelay_operator.cli.pruning import pruned
from mailrelay_operator.cli.standalone import Standalone
from mailrelay_operator.cli.unsupported import find_unsupported
from mailrelay_operator.plan.objects import Manifest
from mailrelay_operator.plan.verdicts import Complaint

#: Each round removes the references that were found to be wrong.
MAX_ROUNDS = 20
#: Reasons that may be wrong if a part of the files could not be read.
_LACKING = frozenset(
    {
        Reason.SECRET_NOT_FOUND,
        Reason.CONFIG_MAP_NOT_FOUND,
        Reason.NAMESPACE_NOT_ALLOWED,
        Reason.ADDRESS_NOT_ALLOWED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All problems, by file and line, and the mailrelay objects found."""

    problems: tuple[FileProblem, ...]
    warnings: tuple[FileProblem, ...]
    inventory: Inventory


def examine(reading: Reading, *, now: datetime) -> Findings:
    """Find all problems. Generated keys and passwords are discarded."""
    found = sort_documents(reading.documents)
    unsupported = list(find_unsupported(found.inventory))
    problems = [*reading.problems, *found.problems, *(one for _, one in unsupported)]
    warnings: list[FileProblem] = []
    if reading.documents or reading.problems:
        warnings += [_empty(name, is_warning=True) for name in reading.empty]
    else:
        problems += [_empty(name, is_warning=False) for name in reading.empty]
    rest = _what_is_left(found, {place for place, _ in unsupported}, problems)
    for relay in sorted(rest.relays):
        problems += _planned(rest, found, relay, complete=not reading.problems, now=now)
        warnings += _surprises(rest, found, relay, complete=not problems)
    if not reading.problems:
        problems += _without_relay(found, rest)
    order = {one.file: number for number, one in enumerate(reading.documents)}

    def place(one: FileProblem) -> tuple[int, int]:
        return order.get(one.file, len(order)), one.line

    return Findings(
        problems=tuple(sorted(dict.fromkeys(problems), key=place)),
        warnings=tuple(sorted(dict.fromkeys(warnings), key=place)),
        inventory=found.inventory,
    )


def _empty(file: str, *, is_warning: bool) -> FileProblem:
    return FileProblem(file=file, line=1, sentence="contains no object.", is_warning=is_warning)


def _what_is_left(
    found: Sorted, unsupported: Collection[Place], problems: list[FileProblem]
) -> Inventory:
    """The inventory, with what remains of invalid mailrelay objects. Further problems of those are
    added to `problems`."""
    inventory = found.inventory
    if not found.broken and not unsupported:
        return inventory
    kept = [one for place, one in inventory.documents.items() if place not in unsupported]
    for place, document in found.broken.items():
        if place[0] not in KINDS:
            continue
        rest = pruned(document.body, found.paths[place])
        problems += [problem_of(document, one) for one in rest.problems]
        problems += [document.problem(unsupported_remedy(one), one) for one in rest.unsupported]
        if rest.body is not None:
            kept.append(replace(document, body=rest.body))
    for place in unsupported:
        document = inventory.documents[place]
        rest = pruned(document.body)
        if rest.body is not None:
            kept.append(replace(document, body=rest.body))
    return sort_documents(kept).inventory


def _planned(
    rest: Inventory, found: Sorted, relay: Key, *, complete: bool, now: datetime
) -> Iterator[FileProblem]:
    """What the plan reports about references, certificates, logins and admission."""
    standalone = Standalone(relay=relay, bind="", admin_host="", admin_port=0)
    mine = of_relay(rest, relay)
    broken = {f"{kind} {'/'.join(key)} " for kind, key in found.broken}
    for _ in range(MAX_ROUNDS):
        complaints = standalone.complaints(mine, now=now)
        for one in complaints:
            of_broken = any(one.trouble.message.startswith(name) for name in broken)
            if not of_broken and (complete or one.trouble.reason not in _LACKING):
                yield place_of(one, mine)
        less = _without(mine, relay, complaints)
        if less is None:
            return
        mine = less


def _without(mine: Inventory, relay: Key, complaints: Iterable[Complaint]) -> Inventory | None:
    """The inventory without what was complained about, for the next round; None if nothing
    remains to be checked."""
    relay_paths: list[str] = []
    sender_paths: dict[Key, list[str]] = {}
    for one in complaints:
        if one.kind == "MailRelay":
            relay_paths.append(_holder(one.trouble.path))
        elif one.trouble.reason in (Reason.NAMESPACE_NOT_ALLOWED, Reason.ADDRESS_NOT_ALLOWED):
            relay_paths.append("spec.allowedSenders")
        else:
            sender_paths.setdefault((one.namespace, one.name), []).append(one.trouble.path)
    if not relay_paths and not sender_paths:
        return None
    relays, senders = dict(mine.relays), dict(mine.senders)
    if relay_paths:
        left = pruned(relays[relay], dict.fromkeys(relay_paths)).body
        if left is None:
            return None
        relays[relay] = left
    for key, paths in sender_paths.items():
        left = pruned(senders.pop(key), paths).body
        if left is not None:
            senders[key] = left
    return replace(mine, relays=relays, senders=senders, models=_models(mine, relays, senders))


def _models(
    mine: Inventory, relays: Mapping[Key, Manifest], senders: Mapping[Key, Manifest]
) -> Mapping[Place, Resource]:
    """The models of what remains; unchanged objects keep theirs."""
    models: dict[Place, Resource] = {}
    for kind, before, after in (
        ("MailRelay", mine.relays, relays),
        ("MailSender", mine.senders, senders),
    ):
        for key, manifest in after.items():
            known = mine.models[kind, key] if before[key] is manifest else parse(manifest)
            models[kind, key] = known
    return models


def _holder(path: str) -> str:
    """The part to remove for an unresolved reference: a login without its Secret is not a login."""
    for part in (".auth", ".tls.caRef", ".tls.certificateRefs"):
        before, found, _ = path.partition(part)
        if found:
            return before + part
    return path


def _surprises(
    rest: Inventory, found: Sorted, relay: Key, *, complete: bool
) -> Iterator[FileProblem]:
    """Warnings about what is valid but may not be intended."""
    document = rest.documents["MailRelay", relay]
    named = [one for kind, one in found.broken if kind == "MailSender"]
    if complete and not named and not of_relay(rest, relay).senders:
        model = rest.models["MailRelay", relay]
        assert isinstance(model, MailRelay)  # by its kind
        if any(one.authentication.mode == "Required" for one in model.spec.listeners):
            sentence = "No MailSender refers to this relay, so no client can log in."
            yield replace(document.problem(sentence), is_warning=True)
    model = rest.models["MailRelay", relay]
    assert isinstance(model, MailRelay)  # by its kind
    for path, sentence in thin_paces(model):
        yield replace(document.problem(sentence, path), is_warning=True)


def _without_relay(found: Sorted, rest: Inventory) -> Iterator[FileProblem]:
    """MailSenders whose relay is in none of the files, although a relay is: possibly a typo."""
    relays = {*rest.relays, *(key for kind, key in found.broken if kind == "MailRelay")}
    if not relays:
        return
    for key, sender in found.inventory.senders.items():
        named = relay_of(sender)
        if named not in relays:
            sentence = (
                f"MailRelay {'/'.join(named)} is not in these files, which contain"
                f" {', '.join('/'.join(one) for one in sorted(relays))}."
            )
            document = found.inventory.documents["MailSender", key]
            yield document.problem(sentence, "spec.relayRef.name")
