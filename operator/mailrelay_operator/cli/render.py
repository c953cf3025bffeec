"""`mailrelay render`: prints what the operator would apply for these files.

The operator's plan with placeholders for generated values, and with the values of Secrets hidden.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import click
import yaml

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.names import ANNOTATION_MINTED, SECRET_TYPE_BINDING
from mailrelay_operator.cli.documents import FileProblem, FilesUnusable, read_stdin
from mailrelay_operator.cli.file_facts import facts_of, of_relay, senders_of
from mailrelay_operator.cli.inventory import Inventory, Key, place_of
from mailrelay_operator.cli.reading import read_inventory
from mailrelay_operator.cli.standalone import NOBODYS_VERIFIER
from mailrelay_operator.plan.actions import Apply, Create
from mailrelay_operator.plan.credentials import Credentials
from mailrelay_operator.plan.facts import (
    Absence,
    Authority,
    Lookup,
    Material,
    ObjectKey,
    Place,
    RelayFacts,
    SenderMaterial,
    Wanted,
)
from mailrelay_operator.plan.objects import Manifest, secret_data
from mailrelay_operator.plan.own import own_objects
from mailrelay_operator.plan.survey import referenced_objects
from mailrelay_operator.plan.together import Together, plan_together
from mailrelay_operator.plan.token_logins import audience_of
from mailrelay_operator.plan.verdicts import read_relay

MINTED = "<minted>"
REDACTED = "<redacted>"
UID = "<uid>"
#: Keys of the operator's Secrets that are not secret.
_PLAIN = {SECRET_TYPE_BINDING: {"type", "provider", "host", "port", "username", "tls"}}


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def render(files: tuple[str, ...]) -> None:
    """Print the Kubernetes objects that the operator would create from these files.

    Secrets show <minted> and <redacted>. Exit code 0: success. 2: the files are not valid, or only
    in part; stderr says why.
    """
    inventory = read_inventory(files, stdin=read_stdin(files), note=_note)
    problems: list[FileProblem] = []
    for relay in sorted(inventory.relays):
        plan = plan_without_minting(inventory, relay, now=datetime.now(UTC))
        for manifest in shown(plan):
            click.echo(f"---\n{yaml.safe_dump(manifest, sort_keys=False, width=100)}", nl=False)
        problems += [place_of(one, inventory) for one in plan.problems]
    if problems:
        raise FilesUnusable(problems)


def plan_without_minting(inventory: Inventory, relay: Key, *, now: datetime) -> Together:
    """The plan for a cluster in which no object of this relay exists yet."""
    mine = of_relay(inventory, relay)
    # What the chart would have to allow, it does allow.
    place = Place(token_audiences=_audiences(mine))
    facts = facts_of(mine, relay, {}, senders=senders_of(mine), place=place, now=now)
    return plan_together(_with_absences(facts), mint=placeholders, mint_for=_placeholder)


def _audiences(mine: Inventory) -> tuple[str, ...]:
    """Those that logins ask tokens of."""
    models = [read_relay(manifest) for manifest in mine.relays.values()]
    return tuple(
        audience
        for model in models
        if isinstance(model, MailRelay)
        for upstream in model.spec.upstreams
        if (audience := audience_of(upstream))
    )


def placeholders(asked: Wanted) -> Material:
    """Placeholders for everything that would be generated."""
    return Material(
        authority=Authority(certificate=MINTED, key=MINTED) if asked.authority else None,
        admin_token=MINTED if asked.admin_token else "",
        leaf=Certificate(chain=MINTED, key=MINTED) if asked.leaf else None,
    )


def shown(plan: Together) -> Iterator[Manifest]:
    """The objects to print: first those created once, then those applied."""
    applied = {action.target for action in plan.actions if isinstance(action, Apply)}
    for action in plan.actions:
        if isinstance(action, Create) and action.target not in applied:
            yield _hidden(action.manifest, MINTED)
    for action in plan.actions:
        if isinstance(action, Apply):
            tenants = action.manifest.get("type") == SECRET_TYPE_BINDING
            yield _hidden(action.manifest, MINTED if tenants else REDACTED)


def _placeholder(_uid: str, found: Credentials) -> SenderMaterial:
    if found.wants_scrypt is not None:
        return SenderMaterial(verifier=NOBODYS_VERIFIER)
    return SenderMaterial(password=MINTED)


def _hidden(manifest: Manifest, secret: str) -> Manifest:
    """The object without its secrets, and with a placeholder for UIDs."""
    result: Manifest = json.loads(json.dumps(manifest))  # a copy of plain values
    result["metadata"].pop("uid", None)
    for owner in result["metadata"].get("ownerReferences") or ():
        owner["uid"] = UID
    if ANNOTATION_MINTED in (result["metadata"].get("annotations") or {}):
        result["metadata"]["annotations"][ANNOTATION_MINTED] = MINTED
    if result["kind"] == "Secret":
        del result["data"]
        result["stringData"] = {
            key: value.decode() if key in _PLAIN.get(manifest["type"], ()) else secret
            for key, value in secret_data(manifest).items()
        }
    return result


def _with_absences(facts: RelayFacts) -> RelayFacts:
    """The facts, with MISSING for every object that the plan looks up and no file contains."""
    objects: dict[ObjectKey, Lookup] = dict(facts.objects)
    for key in own_objects(facts.namespace, facts.name):
        objects.setdefault(key, Absence.MISSING)
    facts = replace(facts, objects=objects)
    for key in referenced_objects(facts):
        objects.setdefault(key, Absence.MISSING)
    return replace(facts, objects=objects)


def _note(text: str) -> None:
    click.echo(f"mailrelay: {text}", err=True)
