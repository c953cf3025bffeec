"""Image archives made here: one layer, in the format `docker save` writes."""

import hashlib
import io
import json
import platform
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .binaries import COREDNS, PAUSE, Binaries, Component
from .layout import Layout
from .node import Node
from .nodeconfig import PAUSE_IMAGE
from .report import step

COREDNS_IMAGE = "localhost/coredns:1"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Any fixed time; without one buildah finds no image equal to a cached one
_CREATED = "2000-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def architecture() -> str:
    """This machine's, by the name that images use."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def write_archive(archive: Path, reference: str, layer: Path, **config: list[str]) -> None:
    """Wrap a layer (an uncompressed tar file) up as an image; `config` is Cmd, Entrypoint, ..."""
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    image = json.dumps(
        {
            "architecture": architecture(),
            "os": "linux",
            "created": _CREATED,
            "config": {"Env": [_PATH], **config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": _CREATED, "created_by": "mailrelay test cluster"}],
        }
    ).encode()
    image_name = hashlib.sha256(image).hexdigest() + ".json"
    manifest = [{"Config": image_name, "RepoTags": [reference], "Layers": [f"{digest}/layer.tar"]}]
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(archive.name + ".partial")
    with tarfile.open(partial, "w") as output:
        output.add(layer, f"{digest}/layer.tar")
        for name, content in (
            (image_name, image),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            output.addfile(entry, io.BytesIO(content))
    partial.rename(archive)


class SystemImages:
    """The images the cluster itself needs; each holds one static program and nothing else."""

    def __init__(self, layout: Layout, binaries: Binaries):
        self._layout = layout
        self._binaries = binaries

    def archives(self) -> list[Path]:
        return [self._build(PAUSE, PAUSE_IMAGE), self._build(COREDNS, COREDNS_IMAGE)]

    def _build(self, component: Component, reference: str) -> Path:
        program = component.programs[0]
        archive = self._layout.images / f"{program}-{component.digest()}.tar"
        if not archive.exists():
            binary = self._binaries.path(program)
            layer = archive.with_name(f"{program}.layer")
            layer.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(layer, "w") as tar:
                entry = tar.gettarinfo(binary, program)
                entry.mode, entry.uid, entry.gid, entry.uname, entry.gname = (
                    0o755,
                    0,
                    0,
                    "root",
                    "root",
                )
                with binary.open("rb") as content:
                    tar.addfile(entry, content)
            write_archive(archive, reference, layer, Entrypoint=[f"/{program}"])
            layer.unlink()
            step(f"Made the image {reference}")
        return archive


def load(nodes: list[Node], *archives: Path, once: bool = False) -> None:
    """Import archives into several nodes at once; `once` skips what a node was given before."""

    def into(node: Node) -> None:
        for archive in archives:
            node.load(archive, once)

    with ThreadPoolExecutor() as pool:
        list(pool.map(into, nodes))
