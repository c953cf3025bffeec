"""The command line."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from . import network
from .cluster import Cluster
from .imagebuild import ImageBuilder
from .layout import Layout
from .report import ClusterError, step

Handler = Callable[[Cluster, argparse.Namespace], int | None]


def main() -> int:
    # Everything after `kubectl` is kubectl's, whatever it looks like.
    if sys.argv[1:2] == ["kubectl"]:
        return _guarded(lambda: _kubectl(Cluster(Layout.from_environment()), sys.argv[2:]))
    arguments = _parser().parse_args()
    return _guarded(lambda: arguments.handle(Cluster(Layout.from_environment()), arguments))


def _guarded(action: Callable[[], int | None]) -> int:
    try:
        if os.geteuid() != 0:
            raise ClusterError(
                "This needs root: it makes namespaces, network links and control groups."
            )
        return action() or 0
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cluster", description="A real Kubernetes on this machine, for tests."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, handle: Handler, description: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=description, description=description)
        added.set_defaults(handle=handle)
        return added

    command("build", _build, "install packages and build the programs (once)")
    up = command("up", _up, "bring the cluster up")
    up.add_argument(
        "--nodes", type=int, default=1, metavar="N", choices=range(1, network.MAX_NODES + 1)
    )
    up.add_argument("--control-plane-only", action="store_true", help="no node, no DNS, no volumes")
    up.add_argument(
        "--metrics", action="store_true", help="also metrics-server, for HorizontalPodAutoscalers"
    )
    up.add_argument("--network-policy", action="store_true", help="also enforce NetworkPolicies")

    down = command("down", _down, "remove everything `up` made")
    down.add_argument(
        "--keep-data", action="store_true", help="keep etcd's data, the nodes' images and volumes"
    )

    load = command("load", _load, "load an image archive into all running nodes")
    load.add_argument("archive", type=Path)

    build_image = command(
        "build-image", _build_image, "build an image and load it into all running nodes"
    )
    build_image.add_argument("-t", "--tag", required=True)
    build_image.add_argument("-f", "--file", type=Path, help="default: Dockerfile in the context")
    build_image.add_argument("--build-arg", action="append", default=[], metavar="K=V")
    build_image.add_argument("context", type=Path)

    command("base-image", _base_image, "make localhost/python:3.11-slim-bookworm (once)")

    node = command("node", _node, "add, lose or disconnect a node")
    node.add_argument("action", choices=("add", "start", "stop", "cut", "heal"))
    node.add_argument("number", type=int)

    command("status", _status, "show what runs")
    path = command("path", _path, "print where a program is, kubectl say")
    path.add_argument("program")
    commands.add_parser("kubectl", help="run kubectl against the cluster", add_help=False)
    return parser


def _build(cluster: Cluster, _: argparse.Namespace) -> None:
    cluster.build()
    step(f"Everything is built in {cluster.layout.cache}")


def _up(cluster: Cluster, arguments: argparse.Namespace) -> None:
    cluster.up(
        0 if arguments.control_plane_only else arguments.nodes,
        arguments.metrics,
        arguments.network_policy,
    )
    step("The cluster is up; its kubeconfig is")
    print(f"KUBECONFIG={cluster.layout.kubeconfig}")


def _down(cluster: Cluster, arguments: argparse.Namespace) -> None:
    cluster.down(arguments.keep_data)


def _load(cluster: Cluster, arguments: argparse.Namespace) -> None:
    cluster.load(arguments.archive)


def _build_image(cluster: Cluster, arguments: argparse.Namespace) -> None:
    archive = ImageBuilder(cluster.layout).build(
        arguments.tag, arguments.context, arguments.file, arguments.build_arg
    )
    cluster.load(archive)
    print(archive)


def _base_image(cluster: Cluster, _: argparse.Namespace) -> None:
    print(ImageBuilder(cluster.layout).base_image())


def _node(cluster: Cluster, arguments: argparse.Namespace) -> None:
    number = cluster.node(arguments.number).number
    if arguments.action in ("add", "start"):
        cluster.add_node(number)
    elif arguments.action == "stop":
        cluster.stop_node(number)
    else:
        network.switch(number, "down" if arguments.action == "cut" else "up")
        step(f"{arguments.action}: node{number}")


def _path(cluster: Cluster, arguments: argparse.Namespace) -> None:
    try:
        print(cluster.binaries.path(arguments.program))
    except KeyError:
        raise ClusterError(f"{arguments.program} is none of the cluster's programs.") from None


def _status(cluster: Cluster, _: argparse.Namespace) -> int:
    names = cluster.processes.names()
    for name in names:
        pid = cluster.processes.pid(name)
        print(f"{name:24} {f'runs as {pid}' if pid else 'has ended'}")
    if not names:
        print("The cluster is down.")
    return 0 if names and all(map(cluster.processes.pid, names)) else 1


def _kubectl(cluster: Cluster, arguments: list[str]) -> None:
    kubectl = cluster.binaries.path("kubectl")
    if not cluster.layout.kubeconfig.exists():
        raise ClusterError("The cluster is not up: run `cluster up` first.")
    os.environ["KUBECONFIG"] = str(cluster.layout.kubeconfig)
    os.execv(kubectl, [str(kubectl), *arguments])
