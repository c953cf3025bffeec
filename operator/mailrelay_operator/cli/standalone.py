"""Plans one relay on this machine: makes facts from files and folder, runs the operator's plan, and
derives the gateway's files and the endpoint from it.

`file_facts` makes the facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mailrelay_gateway.contract.documents import (
    AuthenticationMode,
    Sandbox,
    ScryptVerifier,
    TlsMode,
)
from mailrelay_gateway.contract.files import FILE_NAME, RELAY_FILE, GatewayConfig, file_names, load
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.names import SECRET_TYPE_BINDING, ca_secret_name
from mailrelay_operator.api.parsing import parse
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.cli.admin import Admin
from mailrelay_operator.cli.documents import FileProblem, FilesUnusable
from mailrelay_operator.cli.endpoint import Endpoint, Listener, Login, Upstream, write_endpoint
from mailrelay_operator.cli.file_facts import (
    facts_of,
    key_of,
    of_relay,
    secret_key,
    senders_of,
    settle,
)
from mailrelay_operator.cli.folder import DataFolder
from mailrelay_operator.cli.inventory import Inventory, Key, place_of
from mailrelay_operator.cli.unsupported import find_unsupported
from mailrelay_operator.engine.minting import (
    SCRYPT_N,
    SCRYPT_P,
    SCRYPT_R,
    mint,
    mint_password,
    scrypt_verifier,
)
from mailrelay_operator.plan.credentials import Credentials
from mailrelay_operator.plan.facts import (
    ObjectKey,
    Place,
    SenderMaterial,
)
from mailrelay_operator.plan.objects import (
    Manifest,
    secret_data,
)
from mailrelay_operator.plan.together import Together, plan_together
from mailrelay_operator.plan.verdicts import Complaint, complaint

#: What one round creates is a fact in the next; two rounds suffice, the rest is a bound against a
#: plan that never settles.
MAX_ROUNDS = 5
#: How often the plan is repeated without a changed file, to renew certificates.
REPLAN_EVERY = timedelta(hours=1)
#: A placeholder for a verifier if none is needed, to save the cost of scrypt.
NOBODYS_VERIFIER = ScryptVerifier(n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, salt="", hash="")
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The result. With `problems` the rest is empty."""

    endpoint: Endpoint
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    digest: str = ""  # of `files`, as the gateway's status shows it
    secrets: tuple[Manifest, ...] = field(default=(), repr=False)
    authority: str = ""  # PEM of the CA that clients need; "" for a public CA
    problems: tuple[FileProblem, ...] = ()
    warnings: tuple[str, ...] = ()
    look_again_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Where URLs in the files may lead besides public addresses, and the proxy for those."""

    allowed: tuple[str, ...] = ()
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standalone:
    """Which relay to run, and on which addresses."""

    relay: Key
    bind: str
    admin_host: str
    admin_port: int
    egress: Egress = Egress()

    @property
    def admin(self) -> Admin:
        """The gateway's admin port."""
        return Admin(host=self.admin_host, port=self.admin_port)

    @property
    def client_host(self) -> str:
        """The address of the listeners for a client on this machine."""
        return _WILDCARDS.get(self.bind, self.bind)

    def refuse_unsupported(self, inventory: Inventory) -> None:
        """Raises FilesUnusable if this relay, or a MailSender or MailDomain that refers to it, uses
        unsupported fields."""
        problems = [one for _, one in find_unsupported(of_relay(inventory, self.relay))]
        if problems:
            raise FilesUnusable(problems)

    def plan(self, inventory: Inventory, kept: Iterable[Manifest], *, now: datetime) -> Picture:
        """Plan as the operator would, with the stored objects, generating what is missing."""
        mine = of_relay(inventory, self.relay)
        certificate_host = _certificate_host(mine, self.relay)
        place = Place(
            standalone=True,
            loopback_host=certificate_host or self.client_host,
            allowed_egress=self.egress.allowed,
            egress_proxy=self.egress.proxy,
        )
        store = {key_of(secret): secret for secret in kept}
        minted = _Minted()
        senders = senders_of(mine)
        for _ in range(MAX_ROUNDS):
            facts = facts_of(mine, self.relay, store, senders=senders, place=place, now=now)
            together = plan_together(
                facts,
                mint=lambda asked: mint(asked, relay="/".join(self.relay), now=now),
                mint_for=minted.for_sender,
            )
            if together.problems or not settle(store, together.actions):
                break
        plan = together.relay
        problems = tuple(place_of(one, mine) for one in self._complaints(together, mine))
        if problems or RELAY_FILE not in plan.files:
            return Picture(endpoint=self._endpoint(), problems=problems or (_NOTHING_TO_RUN,))
        config = load(plan.files)
        soonest = [now + REPLAN_EVERY]
        if together.look_again_at is not None:
            soonest.append(together.look_again_at)
        authority = _authority(store, self.relay, config)
        endpoint = self._endpoint(config, mine, store, certificate_host)
        return Picture(
            endpoint=endpoint,
            files=plan.files,
            digest=plan.digest,
            secrets=tuple(store.values()),
            authority=authority,
            warnings=tuple(_find_warnings(mine, self.relay, endpoint)),
            look_again_at=min(soonest),
        )

    def taken_by_admin(self, picture: Picture) -> str:
        """A sentence if the admin port is also a listener's; "" otherwise."""
        for listener in picture.endpoint.listeners:
            same = self.admin_host == self.bind or {self.admin_host, self.bind} & set(_WILDCARDS)
            if listener.port == self.admin_port and same:
                return (
                    f"--admin {_joined(self.admin_host, self.admin_port)}: listener"
                    f" {listener.name} uses this port; choose another."
                )
        return ""

    def complaints(self, mine: Inventory, *, now: datetime) -> tuple[Complaint, ...]:
        """The plan's complaints about this relay (from `of_relay`) and its senders."""
        host = _certificate_host(mine, self.relay) or self.client_host
        place = Place(standalone=True, loopback_host=host)
        facts = facts_of(mine, self.relay, {}, senders=senders_of(mine), place=place, now=now)
        together = plan_together(
            facts,
            mint=lambda asked: mint(asked, relay="/".join(self.relay), now=now),
            mint_for=lambda _, found: SenderMaterial(
                password=mint_password() if found.wants_password else "",
                verifier=NOBODYS_VERIFIER if found.wants_scrypt else None,
            ),
        )
        return self._complaints(together, mine)

    def _complaints(self, together: Together, mine: Inventory) -> tuple[Complaint, ...]:
        """The plan's complaints, and one about a certificate without the relay's name: in a cluster
        such a relay keeps running without new logins, here the user can correct it."""
        unusable = together.relay.view.unusable
        if unusable is None or unusable.reason is not Reason.CERTIFICATE_NAME_MISMATCH:
            return together.problems
        return (*together.problems, complaint(mine.relays[self.relay], unusable))

    def put(self, picture: Picture, folder: DataFolder) -> bool:
        """Write everything, generated Secrets first; whether the gateway's configuration
        changed.
        """
        for secret in picture.secrets:
            folder.keep_secret(secret)
        if picture.authority:
            folder.write("ca.crt", picture.authority.encode())
        else:
            folder.remove("ca.crt")
        write_endpoint(folder, picture.endpoint)
        changed = False
        # Senders first: the relay's document must not be newer than a share that it needs.
        for name in sorted(picture.files, key=lambda name: name == RELAY_FILE):
            changed |= folder.write(f"config/{name}/{FILE_NAME}", picture.files[name])
        for name in file_names():
            if name not in picture.files and (folder.config / name / FILE_NAME).exists():
                folder.remove(f"config/{name}/{FILE_NAME}")
                changed = True
        return changed

    def _endpoint(
        self,
        config: GatewayConfig | None = None,
        inventory: Inventory | None = None,
        store: Mapping[ObjectKey, Manifest] | None = None,
        certificate_host: str = "",
    ) -> Endpoint:
        relay = config.relay if config is not None else None
        token = ""
        if store is not None:
            found = store.get(secret_key(self.relay[0], f"{self.relay[1]}-admin"), {})
            token = secret_data(found).get("token", b"").decode()
        return Endpoint(
            relay="/".join(self.relay),
            admin_host=_WILDCARDS.get(self.admin_host, self.admin_host),
            admin_port=self.admin_port,
            admin_token=token,
            listeners=tuple(
                Listener(
                    name=listener.name,
                    host=self.client_host,
                    port=listener.port,
                    tls=listener.tls.mode,
                    authentication=listener.authentication.mode,
                    certificate_host=certificate_host,
                )
                for listener in (relay.listeners if relay else ())
            ),
            logins=tuple(_logins(config, inventory, store)),
            upstreams=tuple(
                Upstream(name=upstream.name, is_sandbox=isinstance(upstream.settings, Sandbox))
                for upstream in (relay.upstreams if relay else ())
            ),
        )


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Minted:
    """Material generated for senders during one plan: the same in all rounds."""

    def __init__(self) -> None:
        self._passwords: dict[str, str] = {}
        self._verifiers: dict[str, ScryptVerifier] = {}

    def for_sender(self, uid: str, found: Credentials) -> SenderMaterial:
        """The material that this sender's plan requires."""
        if found.wants_scrypt is not None:
            if uid not in self._verifiers:
                self._verifiers[uid] = scrypt_verifier(found.wants_scrypt)
            return SenderMaterial(verifier=self._verifiers[uid])
        if found.wants_password:
            return SenderMaterial(password=self._passwords.setdefault(uid, mint_password()))
        return SenderMaterial()


_NOTHING_TO_RUN = FileProblem(
    file="mailrelay",
    sentence="Internal error (the plan has no configuration and no reason); please report it.",
)


def _certificate_host(inventory: Inventory, relay: Key) -> str:
    """The name that clients have to verify, if not the address that they connect to: the relay's
    own certificate has the loopback addresses, a provided one its public name."""
    model = parse(inventory.relays[relay])
    assert isinstance(model, MailRelay)
    for listener in model.spec.listeners:
        if listener.protocol == "SMTP" and listener.tls.mode != "None":
            given = bool(listener.tls.certificate_refs)
            return (model.spec.service.hostname or model.spec.hostname) if given else ""
    return ""


def _logins(
    config: GatewayConfig | None,
    inventory: Inventory | None,
    store: Mapping[ObjectKey, Manifest] | None,
) -> Iterator[Login]:
    if config is None or inventory is None or store is None:
        return
    for sender in sorted(config.senders, key=lambda sender: (sender.namespace, sender.name)):
        model = inventory.models.get(("MailSender", (sender.namespace, sender.name)))
        password = ""
        if isinstance(model, MailSender) and model.spec.credentials is not None:
            secret = model.spec.credentials.secret_name or ""
            found = store.get(secret_key(sender.namespace, secret), {})
            password = secret_data(found).get("password", b"").decode()
        yield Login(
            sender=f"{sender.namespace}/{sender.name}",
            username=sender.username,
            password=password,
            addresses=sender.addresses,
        )


def _authority(store: Mapping[ObjectKey, Manifest], relay: Key, config: GatewayConfig) -> str:
    """The CA for clients: the one in the senders' Secrets, otherwise the relay's own."""
    for secret in store.values():
        if secret.get("type") == SECRET_TYPE_BINDING and "ca.crt" in secret["data"]:
            return secret_data(secret)["ca.crt"].decode()
    if all(listener.tls.mode is TlsMode.NONE for listener in config.relay.listeners):
        return ""
    found = store.get(secret_key(relay[0], ca_secret_name(relay[1])), {})
    return secret_data(found).get("ca.crt", b"").decode()


def _find_warnings(inventory: Inventory, relay: Key, endpoint: Endpoint) -> Iterator[str]:
    """Warnings about what is valid but may not be intended."""
    for login in endpoint.logins:
        namespace, _, name = login.sender.partition("/")
        model = inventory.models["MailSender", (namespace, name)]
        minted = isinstance(model, MailSender) and bool(
            model.spec.credentials and model.spec.credentials.secret_name
        )
        if minted and not login.password:
            yield (
                f"MailSender {login.sender} cannot log in: no listener of the relay accepts"
                f" logins with"
                " TLS."
            )
    if not endpoint.logins and any(
        listener.authentication is AuthenticationMode.REQUIRED for listener in endpoint.listeners
    ):
        yield f"No MailSender refers to MailRelay {'/'.join(relay)}: no client can log in."
    replicas = inventory.relays[relay]["spec"].get("replicas", 1)
    if replicas != 1:
        yield f"replicas: {replicas} applies to clusters only; `mailrelay up` runs one gateway."
