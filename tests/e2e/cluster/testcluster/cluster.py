"""The whole: bringing the cluster up and taking it down."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

from . import addons, cgroups, dns, images, manifests, network, packages, storage
from .binaries import METRICS_SERVER, NETWORK_POLICY, REQUIRED, Binaries
from .controlplane import NAMES as CONTROL_PLANE
from .controlplane import ControlPlane
from .layout import Layout
from .node import Node
from .processes import Processes, kill_strays, wait_until
from .report import ClusterError, step


class Cluster:
    def __init__(self, layout: Layout):
        self.layout = layout
        self.binaries = Binaries(layout)
        self.processes = Processes(layout.processes, layout.logs)
        self.control_plane = ControlPlane(layout, self.binaries, self.processes)
        self.system_images = images.SystemImages(layout, self.binaries)

    def node(self, number: int) -> Node:
        return Node(
            number, self.layout, self.binaries, self.processes, self.control_plane.authority
        )

    def running_nodes(self) -> list[Node]:
        return [node for node in map(self.node, range(1, network.MAX_NODES + 1)) if node.running()]

    def build(self) -> None:
        packages.install()
        for component in REQUIRED:
            self.binaries.build(component)
        self.system_images.archives()

    def up(self, nodes: int, metrics: bool = False, network_policy: bool = False) -> None:
        for component, wanted in ((METRICS_SERVER, metrics), (NETWORK_POLICY, network_policy)):
            if wanted:
                self.binaries.build(component)
        archives = self.system_images.archives() if nodes else []
        _load_kernel_modules()
        self.control_plane.create_certificates()
        network.create_bridge()
        self.control_plane.start_storage_and_api()
        step("Started etcd and the API server")
        members = [self.node(number) for number in range(1, nodes + 1)]
        self._boot(members, archives)
        self._run_control_plane()
        if not members:
            return
        self._join(members)
        dns.deploy(self.layout, self.binaries)
        manifests.apply(self.layout, self.binaries, storage.storage_class(), "the StorageClass")
        storage.start(self.processes, self.layout)
        self._wait_for(members)
        authority = self.control_plane.authority
        if network_policy:
            addons.start_network_policy(self.layout, self.binaries, authority, members)
        if metrics:
            addons.start_metrics(
                self.layout, self.binaries, self.processes, authority, self.control_plane.api()
            )

    def add_node(self, number: int) -> None:
        """Start a node, whether it is new or was stopped."""
        if self.processes.pid("apiserver") is None:
            raise ClusterError("The cluster is not up: run `cluster up` first.")
        member = self.node(number)
        self._boot([member], self.system_images.archives())
        self._join([member])
        self._wait_for([member])
        if addons.network_policy_wanted(self.layout):
            addons.start_network_policy(
                self.layout, self.binaries, self.control_plane.authority, [member]
            )

    def stop_node(self, number: int) -> None:
        if not self.node(number).stop():
            raise ClusterError(f"Node {number} does not run.")
        network.route_services([node.number for node in self.running_nodes()])
        step(f"Stopped node{number}")

    def load(self, archive: Path) -> None:
        if not archive.is_file():
            raise ClusterError(f"There is no file {archive}.")
        nodes = self.running_nodes()
        images.load(nodes, archive)
        step(f"Loaded {archive.name} into {len(nodes)} node(s)")

    def down(self, keep_data: bool) -> None:
        """Remove whatever `up` made; safe to run at any time, also after a crash or a reboot."""
        found = False
        nodes = [self.node(number) for number in range(1, network.MAX_NODES + 1)]
        for name in self.processes.names():
            # Add-ons and the provisioner first; what runs in a node goes with the node.
            if not name.startswith("node") and name not in CONTROL_PLANE:
                found |= self.processes.stop(name)
        for node in nodes:
            found |= node.stop()
        step("The nodes are gone")
        for name in CONTROL_PLANE:
            found |= self.processes.stop(name)
        step("The control plane is gone")
        found |= bool(kill_strays(self.layout.tools, spare=("kubectl",)))
        found |= cgroups.remove()
        found |= network.remove()
        if not keep_data:
            _unmount_below(self.layout.run)
            for path in self.layout.run.glob("*"):
                if path != self.layout.logs:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        step("Everything is removed" if found else "There was nothing to remove")

    def _boot(self, members: list[Node], archives: list[Path]) -> None:
        for member in members:
            member.boot()
        for member in members:
            member.wait_for_containerd()
        images.load(members, *archives, once=True)
        if members:
            step(f"containerd runs on {', '.join(member.name for member in members)}")

    def _run_control_plane(self) -> None:
        api = self.control_plane.api()
        self.control_plane.wait_for_api(api)
        step("The API server is ready")
        self.control_plane.start_controllers()
        self.control_plane.wait_for_controllers(api)
        step("Controller manager and scheduler are healthy, the default ServiceAccount is there")

    def _join(self, members: list[Node]) -> None:
        api = self.control_plane.api()
        for member in members:
            member.join(api)
        network.route_services([node.number for node in self.running_nodes()])

    def _wait_for(self, members: list[Node]) -> None:
        api = self.control_plane.api()
        for member in members:
            log = self.processes.log(member.daemon("kubelet"))
            wait_until(partial(member.ready, api), f"The readiness of {member.name}", 120, log)
            step(f"{member.name} is Ready")
        wait_until(dns.answers, "An answer from CoreDNS", 120)
        step("CoreDNS answers")


def _load_kernel_modules() -> None:
    """On a kernel that has them built in, or where they are loaded, this changes nothing."""
    if shutil.which("modprobe"):
        subprocess.run(
            ["modprobe", "--all", "--quiet", "overlay", "br_netfilter", "nf_conntrack"], check=False
        )


def _unmount_below(folder: Path) -> None:
    """Drop the nodes' image stores. (All else that nodes mount is in their own namespaces.)"""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted(points, reverse=True):
        if Path(point).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", point], capture_output=True)
