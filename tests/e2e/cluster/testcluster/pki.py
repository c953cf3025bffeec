"""Certificates, keys, and the kubeconfig files made of them."""

import base64
import json
from pathlib import Path

from .processes import Argument, run

DAYS = "365"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


class Authority:
    """A certificate authority in a folder; what exists is not made again."""

    def __init__(self, folder: Path, name: str = "ca"):
        self._folder = folder
        self._name = name

    @property
    def certificate(self) -> Path:
        return self.crt(self._name)

    @property
    def private_key(self) -> Path:
        return self.key(self._name)

    def crt(self, name: str) -> Path:
        return self._folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self._folder / f"{name}.key"

    def create(self) -> None:
        extensions = {
            "basicConstraints": "critical,CA:TRUE",
            "keyUsage": "critical,keyCertSign,cRLSign",
        }
        self._make(self._name, f"/CN={self._name}", extensions, signed_by=())

    def issue(self, name: str, subject: str, usage: str = "clientAuth", names: str = "") -> None:
        """Issue a certificate.

        `usage` is clientAuth or serverAuth, `names` the server's, as openssl writes them.
        """
        extensions = {
            "basicConstraints": "critical,CA:FALSE",
            "keyUsage": "critical,digitalSignature,keyEncipherment",
            "extendedKeyUsage": usage,
        }
        if names:
            extensions["subjectAltName"] = names
        self._make(name, subject, extensions, ("-CA", self.certificate, "-CAkey", self.private_key))

    def _make(
        self, name: str, subject: str, extensions: dict[str, str], signed_by: tuple[Argument, ...]
    ) -> None:
        if self.crt(name).exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lines = ["[req]", "distinguished_name = subject", "[subject]", "[extensions]"]
        lines += [f"{key} = {value}" for key, value in extensions.items()]
        # Written under another name first: a half-made pair must not look like a made one.
        partial = self._folder / f"{name}.crt.partial"
        run(
            [
                "openssl",
                "req",
                "-x509",
                "-config",
                "/dev/stdin",
                "-extensions",
                "extensions",
                *_KEY,
                "-subj",
                subject,
                "-days",
                DAYS,
                *signed_by,
                "-keyout",
                self.key(name),
                "-out",
                partial,
            ],
            f"Making the certificate {name}",
            stdin="\n".join(lines) + "\n",
        )
        partial.rename(self.crt(name))

    def kubeconfig(self, path: Path, name: str, server: str) -> Path:
        """Write a kubeconfig that logs in with the certificate `name`."""

        def inline(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": inline(self.certificate)}
        user = {
            "client-certificate-data": inline(self.crt(name)),
            "client-key-data": inline(self.key(name)),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "mailrelay", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "mailrelay", "context": {"cluster": "mailrelay", "user": name}}],
            "current-context": "mailrelay",
        }
        text = json.dumps(config, indent=2) + "\n"  # JSON is YAML
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(text)
        return path


def signing_key(folder: Path) -> tuple[Path, Path]:
    """The key pair that signs ServiceAccount tokens: (private, public)."""
    private, public = folder / "service-accounts.key", folder / "service-accounts.pub"
    if not public.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        run(
            [
                "openssl",
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-out",
                private,
            ],
            "Making the key of the ServiceAccounts",
        )
        run(
            ["openssl", "pkey", "-in", private, "-pubout", "-out", public],
            "Making their public key",
        )
    return private, public
