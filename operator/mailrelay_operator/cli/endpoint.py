"""The endpoint of a running standalone relay: listeners, logins and admin port.

`up` writes it to the data folder; `send` and `status` read it. Values and their JSON.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError

from mailrelay_gateway.contract.documents import AuthenticationMode, TlsMode
from mailrelay_operator.cli.admin import Admin
from mailrelay_operator.cli.folder import DataFolder, FolderUnusable

FILE = "endpoint.json"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Listener(_Value):
    """A listener, as seen by a client on this machine."""

    name: str
    host: str
    port: int
    tls: TlsMode
    authentication: AuthenticationMode
    certificate_host: str = ""  # a name in its certificate, if that lacks `host`


class Login(_Value):
    """A MailSender. `password` is empty if it is in an existing Secret of the user."""

    sender: str  # NS/NAME
    username: str
    password: str = ""
    addresses: tuple[str, ...] = ()


class Upstream(_Value):
    """An upstream: its name, and whether it captures mail instead of sending it."""

    name: str
    is_sandbox: bool = False


class Endpoint(_Value):
    """Everything that `send` and `status` need to know about a relay."""

    relay: str  # NS/NAME
    admin_host: str
    admin_port: int
    admin_token: str = ""
    listeners: tuple[Listener, ...] = ()
    logins: tuple[Login, ...] = ()
    upstreams: tuple[Upstream, ...] = ()

    @property
    def admin(self) -> Admin:
        """A client of the admin port."""
        return Admin(host=self.admin_host, port=self.admin_port, token=self.admin_token)

    @property
    def has_sandbox(self) -> bool:
        """Whether there is a sandbox with captured mail."""
        return any(upstream.is_sandbox for upstream in self.upstreams)

    @property
    def sends_nothing_out(self) -> bool:
        """Whether all mail is captured, so that any recipient is safe."""
        return bool(self.upstreams) and all(upstream.is_sandbox for upstream in self.upstreams)


def write_endpoint(folder: DataFolder, endpoint: Endpoint) -> None:
    """Write it to the folder."""
    folder.write_json(FILE, endpoint.model_dump(mode="json"))


def read_endpoint(folder: DataFolder) -> Endpoint:
    """What `up` wrote last; raises FolderUnusable if it never ran."""
    kept = folder.read_json(FILE)
    if kept is None:
        raise FolderUnusable(
            f"{folder.path} has no {FILE}: start `mailrelay up` first, and let it become ready."
        )
    try:
        return Endpoint.model_validate(kept)
    except ValidationError as error:
        raise FolderUnusable(
            f"{folder.path / FILE} is damaged ({error.error_count()} fields); start `mailrelay up`"
            " to write it again."
        ) from None
