"""Images with a file system: the base image, and what is built from a Dockerfile."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import machine
from .images import write_archive
from .layout import Layout
from .packages import APT_GET
from .processes import run
from .report import ClusterError, step

BASE_REFERENCE = "localhost/python:3.11-slim-bookworm"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "python3-pip", "ca-certificates")

# Makes Debian's Python look like the one of the official image where it matters to a Dockerfile:
# the commands' names and places, and a pip that installs for all. What names this machine goes.
_FURNISH = """
set -e
cd "$1"
for name in python python3 python3.11; do ln -sf /usr/bin/python3.11 usr/local/bin/$name; done
ln -sf /usr/bin/pip3 usr/local/bin/pip
ln -sf /usr/bin/pip3 usr/local/bin/pip3
rm -f usr/lib/python3.11/EXTERNALLY-MANAGED
rm -f etc/hostname etc/hosts etc/resolv.conf etc/apt/sources.list
rm -f var/log/bootstrap.log var/log/dpkg.log var/log/alternatives.log
rm -rf var/cache/apt/*.bin var/cache/apt/archives/*.deb var/lib/apt/lists/* var/cache/debconf/*-old
rm -rf usr/share/doc/* usr/share/man/* usr/share/info/* usr/share/locale/*
find usr/lib/python3* -name __pycache__ -prune -exec rm -rf {} +
"""


class ImageBuilder:
    def __init__(self, layout: Layout):
        self._layout = layout

    def base_image(self) -> Path:
        """Make the base image once; returns its archive."""
        digest = hashlib.sha256(
            repr((BASE_REFERENCE, SUITE, PACKAGES, _FURNISH)).encode()
        ).hexdigest()[:12]
        archive = self._layout.images / f"python-{digest}.tar"
        fresh = not archive.exists()
        if fresh:
            self._debootstrap(archive)
        if fresh or not self._known(BASE_REFERENCE):
            self._buildah("pull", f"docker-archive:{archive}")
            step("The image builder knows the base image")
        return archive

    def build(
        self, tag: str, context: Path, dockerfile: Path | None, build_args: list[str]
    ) -> Path:
        """Build a Dockerfile; returns the archive of the image."""
        if not context.is_dir():
            raise ClusterError(f"There is no folder {context}.")
        file = dockerfile or context / "Dockerfile"
        if not file.is_file():
            raise ClusterError(f"There is no Dockerfile {file}.")
        if any(BASE_REFERENCE in argument for argument in build_args):
            self.base_image()
        options = [
            "--isolation",
            "chroot",
            "--layers",
            "--format",
            "docker",
            "--pull=false",
            "--file",
            str(file),
        ]
        for argument in build_args:
            options += ["--build-arg", argument]
        with tempfile.TemporaryDirectory() as folder:
            for source, target in machine.stage(Path(folder)):
                options += ["--volume", f"{source}:{target}"]
            self._buildah("build", *options, "--tag", _local(tag), str(context), show=True)
        step(f"Built {tag}")
        archive = self._layout.images / "built" / f"{re.sub('[/:]', '_', tag)}.tar"
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.unlink(missing_ok=True)  # the format cannot be written over
        self._buildah("push", _local(tag), f"docker-archive:{archive}:{tag}")
        return archive

    def _debootstrap(self, archive: Path) -> None:
        mirror = self._mirror()
        step(f"Making {BASE_REFERENCE} of Debian packages (a minute or two)")
        with tempfile.TemporaryDirectory(dir=self._layout.cache) as folder:
            root, layer = Path(folder) / "root", Path(folder) / "layer.tar"
            packages = f"--include={','.join(PACKAGES)}"
            run(["debootstrap", "--variant=minbase", packages, SUITE, root, mirror], "debootstrap")
            run(["sh", "-c", _FURNISH, "sh", root], "Furnishing the base image")
            excluded = [f"--exclude=./{folder}/*" for folder in ("dev", "proc", "sys")]
            run(
                [
                    "tar",
                    "--directory",
                    root,
                    "--numeric-owner",
                    *excluded,
                    "--create",
                    "--file",
                    layer,
                    ".",
                ],
                "Packing the base image",
            )
            write_archive(archive, BASE_REFERENCE, layer, Cmd=["python3"])
        step(f"Made {BASE_REFERENCE}: {archive.stat().st_size >> 20} MiB")

    @staticmethod
    def _mirror() -> str:
        for attempt in range(2):
            for address, suite, component in machine.debian_sources():
                if (suite, component) == (SUITE, "main"):
                    return address
            if attempt == 0:
                run([*APT_GET, "update"], "Updating the package lists")
        raise ClusterError(
            f"apt has no source for Debian {SUITE} here, so the base image cannot be made."
        )

    def _known(self, reference: str) -> bool:
        question = [*self._command(), "inspect", "--type", "image", reference]
        return subprocess.run(question, capture_output=True).returncode == 0

    def _command(self) -> list[str]:
        if not shutil.which("buildah"):
            raise ClusterError("buildah is not installed: run `cluster build` first.")
        storage = self._layout.buildah
        places = ["--root", str(storage / "storage"), "--runroot", str(storage / "run")]
        return ["buildah", *places, "--storage-driver", "overlay"]

    def _buildah(self, *arguments: str, show: bool = False) -> None:
        argv = [*self._command(), *arguments]
        if not show:
            run(argv, f"`buildah {arguments[0]}`")
            return
        environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
        if subprocess.run(argv, stdout=sys.stderr, env=environment).returncode != 0:
            raise ClusterError(f"`buildah {arguments[0]}` failed; its output is above.")


def _local(tag: str) -> str:
    """The builder's own name for an image; one below localhost is never asked of a registry."""
    return "localhost/" + tag.lower().replace("/", "-")
