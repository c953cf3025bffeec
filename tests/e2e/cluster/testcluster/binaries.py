"""The programs built from pinned Go modules: a folder under `tools` each, of go.mod and go.sum."""

import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import gotoolchain
from .layout import SOURCE, Layout
from .report import ClusterError, step, tail

# What the programs say of themselves; the go.mod files decide what is built.
KUBERNETES_VERSION = "v1.36.3"
CONTAINERD_VERSION = "v2.3.7"
PROGRESS_SECONDS = 30


def _version_flags() -> str:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    return " ".join(
        f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items()
    )


@dataclass(frozen=True)
class Component:
    """One Go module that pins a set of programs."""

    name: str
    programs: tuple[str, ...]
    package: str = "tool"  # "tool": everything the go.mod lists as a tool
    link_flags: str = ""
    renamed: dict[str, str] = field(
        default_factory=dict
    )  # what go calls a program: what we call it

    @property
    def source(self) -> Path:
        return SOURCE / "tools" / self.name

    @property
    def flags(self) -> list[str]:
        return ["-trimpath", "-ldflags", f"-s -w {self.link_flags}".strip()]

    def digest(self) -> str:
        """Names what would be built: the pinned modules, our own source, and the flags."""
        digest = hashlib.sha256(repr((self.package, self.flags, self.renamed)).encode())
        for path in sorted(self.source.iterdir()):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:12]


KUBERNETES = Component(
    "kubernetes",
    (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    ),
    link_flags=_version_flags(),
)
ETCD = Component("etcd", ("etcd",), renamed={"server": "etcd"})
CONTAINERD = Component(
    "containerd",
    ("containerd", "containerd-shim-runc-v2", "ctr"),
    link_flags=f"-X github.com/containerd/containerd/v2/version.Version={CONTAINERD_VERSION}",
)
COREDNS = Component("coredns", ("coredns",))
PAUSE = Component("pause", ("pause",), package=".")
METRICS_SERVER = Component("metrics-server", ("metrics-server",))
NETWORK_POLICY = Component(
    "network-policy", ("kube-network-policies",), renamed={"standard": "kube-network-policies"}
)

REQUIRED = (PAUSE, ETCD, CONTAINERD, COREDNS, KUBERNETES)
OPTIONAL = (METRICS_SERVER, NETWORK_POLICY)


class Binaries:
    """Builds the programs once per digest, and finds them."""

    def __init__(self, layout: Layout):
        self._layout = layout

    def folder(self, component: Component) -> Path:
        return self._layout.tools / f"{component.name}-{component.digest()}"

    def path(self, program: str) -> Path:
        for component in REQUIRED + OPTIONAL:
            if program in component.programs:
                path = self.folder(component) / program
                if not path.exists():
                    raise ClusterError(f"{program} is not built yet: run `cluster build` first.")
                return path
        raise KeyError(program)

    def build(self, component: Component) -> None:
        folder = self.folder(component)
        if folder.exists():
            return
        step(f"Building {component.name}: {', '.join(component.programs)}")
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._compile(component, partial)
        for built, wanted in component.renamed.items():
            (partial / built).rename(partial / wanted)
        partial.rename(folder)

    def _compile(self, component: Component, output: Path) -> None:
        # No garbage collection to speak of: the compiler runs briefly, and processors are scarcer
        # than memory.
        environment = {"GOGC": "400", **os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
        go = gotoolchain.find(self._layout)
        argv = [go, "build", "-v", *component.flags, "-o", f"{output}/", component.package]
        self._layout.build_logs.mkdir(parents=True, exist_ok=True)
        log_path = self._layout.build_logs / f"build-{component.name}.log"
        began = time.monotonic()
        with log_path.open("w") as log:
            compiler = subprocess.Popen(
                argv, cwd=component.source, env=environment, stdout=log, stderr=log
            )
        while True:
            try:
                status = compiler.wait(PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                packages = len(log_path.read_text().splitlines())
                step(f"  still building {component.name}: {packages} packages so far")
        if status != 0:
            words = tail(log_path.read_text())
            raise ClusterError(f"Building {component.name} failed; the log is {log_path}.\n{words}")
        step(f"Built {component.name} in {time.monotonic() - began:.0f} s")
