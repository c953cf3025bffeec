"""Where everything lives on disk."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .report import ClusterError

SOURCE = Path(__file__).resolve().parent.parent

# A node hides these folders of the machine behind its own (see node.py).
HIDDEN_IN_NODES = ("/var/lib", "/var/log", "/run")


@dataclass(frozen=True)
class Layout:
    """The cache folder: what `build` makes is kept, what `up` makes is under `run`."""

    cache: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Layout":
        caches = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        named = environment.get("MAILRELAY_CLUSTER_CACHE")
        cache = Path(named or caches / "mailrelay-cluster").resolve()
        for folder in HIDDEN_IN_NODES:
            if cache.is_relative_to(folder):
                raise ClusterError(
                    f"The cache folder {cache} cannot be under {folder}: "
                    f"nodes have their own {folder}."
                )
        return cls(cache)

    @property
    def tools(self) -> Path:
        return self.cache / "tools"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    @property
    def buildah(self) -> Path:
        return self.cache / "buildah"

    @property
    def build_logs(self) -> Path:
        return self.cache / "log"

    @property
    def run(self) -> Path:
        return self.cache / "run"

    @property
    def processes(self) -> Path:
        return self.run / "processes"

    @property
    def logs(self) -> Path:
        return self.run / "log"

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def etcd(self) -> Path:
        return self.run / "etcd"

    @property
    def nodes(self) -> Path:
        return self.run / "nodes"

    @property
    def kubeconfig(self) -> Path:
        return self.run / "kubeconfig"
