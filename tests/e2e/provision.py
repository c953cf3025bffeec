"""Obtains a cluster for the end-to-end tests, and brings our images into it.

    provision.py run [--keep] -- COMMAND   up, images, COMMAND, down
    provision.py up | down                 one of these steps
    provision.py images                    the two images for people, under the names that the chart
                                           asks for (REGISTRY=... puts a registry in front, PUSH=1
                                           pushes them); no cluster is needed

Three kinds of cluster, the first that there is (MAILRELAY_E2E_CLUSTER=given|kind|own decides it):

- given: $KUBECONFIG, with the command that loads an image in $MAILRELAY_E2E_LOAD, where `{image}`
  stands for the image's name or `{archive}` for a file of it. Both have to be set, so that nobody's
  everyday cluster is taken by accident. It is never removed.
- kind, where a Docker daemon and the `kind` program are.
- own: tests/e2e/cluster, built from Go modules. Needs root on Debian.

COMMAND finds KUBECONFIG, MAILRELAY_E2E_KIND (the kind of cluster), the names of the images in
MAILRELAY_GATEWAY_IMAGE, MAILRELAY_OPERATOR_IMAGE and MAILRELAY_PEERS_IMAGE, and kubectl on PATH.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "tests/e2e/cluster/cluster"
KIND_NAME = "mailrelay-e2e"
# Made of Debian packages by tests/e2e/cluster, where no image can be pulled.
OWN_BASE_IMAGE = "localhost/python:3.11-slim-bookworm"
PUBLIC_BASE_IMAGE = "python:3.11-slim-bookworm"
# Of a failing program's stdout and stderr, what is said again at the end.
LAST_LINES = 12
# For what is still in its pipes after its end.
DRAIN_SECONDS = 2


class ProvisionError(Exception):
    """What stops us, in a sentence that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image to build."""

    variable: str  # the environment variable that tells its name to the tests
    name: str
    dockerfile: str
    context: str


IMAGES = (
    Image(
        variable="MAILRELAY_GATEWAY_IMAGE",
        name="mailrelay-gateway:e2e",
        dockerfile="gateway/Dockerfile",
        context=".",
    ),
    Image(
        variable="MAILRELAY_OPERATOR_IMAGE",
        name="mailrelay-operator:e2e",
        dockerfile="operator/Dockerfile",
        context=".",
    ),
    Image(
        variable="MAILRELAY_PEERS_IMAGE",
        name="mailrelay-peers:e2e",
        dockerfile="tests/e2e/peers/Dockerfile",
        context="tests/e2e/peers",
    ),
)


def choose(environment: Mapping[str, str], *, docker: bool, kind: bool, root: bool) -> str:
    """Decide which kind of cluster to take: given, kind or own."""
    given = bool(environment.get("KUBECONFIG") and environment.get("MAILRELAY_E2E_LOAD"))
    asked = environment.get("MAILRELAY_E2E_CLUSTER", "")
    if asked not in ("", "given", "kind", "own"):
        raise ProvisionError(f"MAILRELAY_E2E_CLUSTER={asked!r} is none of given, kind, own.")
    if asked == "given" and not given:
        raise ProvisionError("A given cluster takes both KUBECONFIG and MAILRELAY_E2E_LOAD.")
    if asked == "kind" and not (docker and kind):
        raise ProvisionError("kind takes a running Docker daemon and the program `kind`.")
    if asked:
        return asked
    if given:
        return "given"
    if docker and kind:
        return "kind"
    if root:
        return "own"
    raise ProvisionError(
        "There is no cluster to be had: start Docker and install kind, or run as root on Debian "
        "(the cluster is then built here), or set KUBECONFIG and MAILRELAY_E2E_LOAD."
    )


class Cluster(Protocol):
    """What we need of a kind of cluster; each step may be repeated."""

    def up(self) -> dict[str, str]:
        """Bring it up; returns what to add to the tests' environment."""

    def add(self, image: Image) -> None:
        """Build an image and load it."""

    def down(self) -> None:
        """Remove it."""


class Given:
    """Somebody's cluster: ours to use, not to remove."""

    def __init__(self, environment: Mapping[str, str]):
        self._kubeconfig = environment["KUBECONFIG"]
        self._load = environment["MAILRELAY_E2E_LOAD"]
        self._base = environment.get("MAILRELAY_E2E_BASE_IMAGE", PUBLIC_BASE_IMAGE)

    def up(self) -> dict[str, str]:
        say(f"Taking the cluster of KUBECONFIG={self._kubeconfig}")
        return {"KUBECONFIG": self._kubeconfig}

    def add(self, image: Image) -> None:
        builder = "docker" if docker_runs() else "buildah"
        build_with(builder, image, self._base)
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            words = shlex.split(self._load)
            if any("{archive}" in word for word in words):
                save = {
                    "docker": ["docker", "save", "--output", str(archive), image.name],
                    "buildah": ["buildah", "push", image.name, f"docker-archive:{archive}"],
                }
                run(save[builder])
            run([word.format(image=image.name, archive=archive) for word in words])

    def down(self) -> None:
        say("The given cluster stays as it is")


class Kind:
    """Kubernetes in Docker."""

    def __init__(self, environment: Mapping[str, str]):
        self._base = environment.get("MAILRELAY_E2E_BASE_IMAGE", PUBLIC_BASE_IMAGE)
        self._kubeconfig = ROOT / ".e2e/kubeconfig"

    def up(self) -> dict[str, str]:
        running = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True)
        where = ["--name", KIND_NAME, "--kubeconfig", str(self._kubeconfig)]
        self._kubeconfig.parent.mkdir(exist_ok=True)
        if KIND_NAME in running.stdout.split():
            run(["kind", "export", "kubeconfig", *where])
        else:
            run(["kind", "create", "cluster", "--wait", "180s", *where])
        return {"KUBECONFIG": str(self._kubeconfig)}

    def add(self, image: Image) -> None:
        build_with("docker", image, self._base)
        run(["kind", "load", "docker-image", image.name, "--name", KIND_NAME])

    def down(self) -> None:
        run(["kind", "delete", "cluster", "--name", KIND_NAME])
        self._kubeconfig.unlink(missing_ok=True)


class Own:
    """tests/e2e/cluster: a control plane and a node on this machine, from Go modules."""

    def __init__(self, environment: Mapping[str, str]):
        self._base = environment.get("MAILRELAY_E2E_BASE_IMAGE", OWN_BASE_IMAGE)
        self._nodes = environment.get("MAILRELAY_E2E_NODES", "1")

    def up(self) -> dict[str, str]:
        say("Building the cluster's programs (a quarter of an hour the first time)")
        run([sys.executable, str(CLUSTER), "build"])
        say("Starting the cluster")
        output = run([sys.executable, str(CLUSTER), "up", "--nodes", self._nodes], capture=True)
        kubeconfig = output.strip().splitlines()[-1].removeprefix("KUBECONFIG=")
        kubectl = run([sys.executable, str(CLUSTER), "path", "kubectl"], capture=True).strip()
        path = f"{Path(kubectl).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        return {"KUBECONFIG": kubeconfig, "PATH": path}

    def add(self, image: Image) -> None:
        base = ["--build-arg", f"BASE_IMAGE={self._base}"]
        what = ["-t", image.name, "-f", str(ROOT / image.dockerfile), str(ROOT / image.context)]
        run([sys.executable, str(CLUSTER), "build-image", *base, *what], capture=True)

    def down(self) -> None:
        run([sys.executable, str(CLUSTER), "down"])


def cluster_of(kind: str, environment: Mapping[str, str]) -> Cluster:
    """The cluster of a kind that `choose` decided on."""
    kinds: dict[str, type[Given] | type[Kind] | type[Own]] = {
        "given": Given,
        "kind": Kind,
        "own": Own,
    }
    return kinds[kind](environment)


def build_with(builder: str, image: Image, base: str) -> None:
    """Build an image with a container engine of this machine."""
    what = ["--build-arg", f"BASE_IMAGE={base}", "-t", image.name]
    run([builder, "build", *what, "-f", str(ROOT / image.dockerfile), str(ROOT / image.context)])


def docker_runs() -> bool:
    """Whether a Docker daemon answers (the program alone does not make a cluster)."""
    if not shutil.which("docker"):
        return False
    answer = subprocess.run(["docker", "info"], capture_output=True, timeout=20)
    return answer.returncode == 0


def images_for_people(registry: str) -> tuple[Image, ...]:
    """The gateway's and the operator's image as the chart names them, in a registry if one is
    given.
    """
    chart = (ROOT / "charts/mailrelay/Chart.yaml").read_text()
    version = re.search(r'^appVersion: "(.+)"$', chart, re.MULTILINE)
    if version is None:
        raise ProvisionError("charts/mailrelay/Chart.yaml has no line appVersion.")
    prefix = f"{registry.rstrip('/')}/" if registry else ""
    return tuple(
        replace(image, name=f"{prefix}{image.name.partition(':')[0]}:{version[1]}")
        for image in IMAGES
        if image.variable != "MAILRELAY_PEERS_IMAGE"
    )


def build_for_people(environment: Mapping[str, str]) -> None:
    """Build them with what this machine has, push them if asked to, and say what comes next."""
    images = images_for_people(environment.get("REGISTRY", ""))
    push = bool(environment.get("PUSH"))
    builder = "docker" if docker_runs() else "podman" if shutil.which("podman") else ""
    if not builder and (push or os.geteuid() != 0):
        raise ProvisionError("Building images takes Docker, whose daemon runs, or Podman.")
    for image in images:
        say(f"Building {image.name}")
        if builder:
            build_with(builder, image, environment.get("BASE_IMAGE", PUBLIC_BASE_IMAGE))
        else:
            # Neither is here: with the tools of our own cluster, into its running nodes.
            Own(environment).add(image)
        if push:
            run([builder, "push", image.name])
    names = " ".join(image.name for image in images)
    if not push:
        say(f"Built. For kind: kind load docker-image {names}")


def run(argv: list[str], *, capture: bool = False) -> str:
    """Run a program to its end, what it says to our stderr (stdout returned with `capture`).

    An exit status but 0 stops us, with the last lines of what it said: what follows (the cluster
    is taken down) would hide them.
    """
    output: list[str] = []
    last = {name: deque[str](maxlen=LAST_LINES) for name in ("stdout", "stderr")}
    program = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    assert program.stdout is not None
    assert program.stderr is not None

    def read(lines: IO[str], name: str, *, show: bool) -> None:
        with lines:
            for line in lines:
                last[name].append(line)
                if show:
                    sys.stderr.write(line)
                    sys.stderr.flush()
                else:
                    output.append(line)

    readers = [
        threading.Thread(
            target=read, args=(program.stdout, "stdout"), kwargs={"show": not capture}
        ),
        threading.Thread(target=read, args=(program.stderr, "stderr"), kwargs={"show": True}),
    ]
    for reader in readers:
        reader.daemon = True
        reader.start()
    try:
        program.wait()
    except BaseException:
        program.terminate()  # we are being ended: so is it
        raise
    # Not for ever: what the program left running may have kept its outputs open.
    until = time.monotonic() + DRAIN_SECONDS
    for reader in readers:
        reader.join(max(0.0, until - time.monotonic()))
    if program.returncode != 0:
        words = "".join(f"    {line.rstrip()}\n" for lines in last.values() for line in lines)
        raise ProvisionError(
            f"`{' '.join(argv)}` ended with {program.returncode}; its last lines:\n{words}"
        )
    return "".join(output)


def say(text: str) -> None:
    """One line about what comes next."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def add_images(cluster: Cluster) -> None:
    """Build and load all images."""
    for image in IMAGES:
        say(f"Building and loading {image.name}")
        cluster.add(image)


def run_command(cluster: Cluster, kind: str, command: list[str], *, keep: bool) -> int:
    """Up, images, the command, down; whatever happens, down comes last."""
    try:
        added = cluster.up()
        add_images(cluster)
        names = {image.variable: image.name for image in IMAGES}
        environment = {**os.environ, **added, **names, "MAILRELAY_E2E_KIND": kind}
        say(f"Running {' '.join(command)}")
        return subprocess.run(command, cwd=ROOT, env=environment).returncode
    finally:
        if keep:
            say("The cluster stays up (make e2e-down removes it)")
        else:
            say("Taking the cluster down")
            cluster.down()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="provision.py", description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    runs = steps.add_parser("run", help="up, images, COMMAND, down")
    runs.add_argument("--keep", action="store_true", help="leave the cluster up at the end")
    runs.add_argument("command", nargs="+", metavar="COMMAND")
    steps.add_parser("up", help="bring a cluster up; prints KUBECONFIG=...")
    steps.add_parser("images", help="build the images for people")
    steps.add_parser("down", help="remove the cluster")
    arguments = parser.parse_args()

    # A terminated run takes its cluster down as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    try:
        if arguments.step == "images":
            build_for_people(os.environ)
            return 0
        kind = choose(
            os.environ,
            docker=docker_runs(),
            kind=shutil.which("kind") is not None,
            root=os.geteuid() == 0,
        )
        cluster = cluster_of(kind, os.environ)
        match arguments.step:
            case "run":
                return run_command(cluster, kind, arguments.command, keep=arguments.keep)
            case "up":
                for name, value in cluster.up().items():
                    print(f"{name}={value}")
            case "down":
                cluster.down()
        return 0
    except ProvisionError as error:
        print(f"provision: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        say(f"{arguments.step}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
