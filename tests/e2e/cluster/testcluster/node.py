"""A node: namespaces of its own, with containerd, kubelet and kube-proxy inside.

The namespaces are of mounts, network, processes and the host name.

The first process in the PID namespace only holds it open. When that one is killed, the kernel kills
all the rest and drops the mounts, the network devices and the firewall rules with the namespaces.
That is how a node is lost (`node stop`), and why nothing of it can be left behind. What a disk
would keep stays in the node's folder, which the node sees as /var/lib (images, containers, volumes)
and /var/log.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from . import cgroups, network, nodeconfig
from .api import Api
from .binaries import Binaries
from .layout import Layout
from .pki import Authority
from .processes import SYSTEM_PATH, Argument, Processes, children, run, wait_until
from .report import ClusterError


class Node:
    def __init__(
        self,
        number: int,
        layout: Layout,
        binaries: Binaries,
        processes: Processes,
        authority: Authority,
    ):
        if not 1 <= number <= network.MAX_NODES:
            raise ClusterError(
                f"There is no node {number}: nodes are numbered 1 to {network.MAX_NODES}."
            )
        self.number = number
        self.name = f"node{number}"
        self.address = network.node_address(number)
        self._folder = layout.nodes / self.name
        self._etc = self._folder / "etc"
        self._image_store = self._folder / "lib" / "containerd"
        self._binaries = binaries
        self._processes = processes
        self._authority = authority
        self._joined = 0  # when its kubelet was started, if this object did that

    def running(self) -> bool:
        return self._processes.pid(self.name) is not None

    def boot(self) -> None:
        """Make the namespaces and start containerd in them."""
        for folder in (self._image_store, self._folder / "log", self._etc / "cni"):
            folder.mkdir(parents=True, exist_ok=True)
        if not self.running():
            self._mount_image_store()
            self._make_namespaces()
        (self._etc / "containerd.toml").write_text(nodeconfig.containerd(self._etc / "cni"))
        (self._etc / "cni/10-pods.conflist").write_text(nodeconfig.pod_network(self.number))
        binary = self._binaries.path("containerd")
        path = {"PATH": f"{binary.parent}:{SYSTEM_PATH}"}  # it looks for its shim there
        self.start_daemon("containerd", [binary, "--config", self._etc / "containerd.toml"], path)

    def wait_for_containerd(self) -> None:
        name = self.daemon("containerd")

        def answers() -> bool:
            self._processes.require(name)
            try:
                return bool(self.ctr("version"))
            except ClusterError:
                return False

        wait_until(answers, f"containerd on {self.name}", 60, self._processes.log(name))

    def join(self, api: Api) -> None:
        """Register the node and start what makes it one."""
        pods = network.pod_range(self.number)
        api.create(
            "/api/v1/nodes",
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
                "spec": {"podCIDR": pods, "podCIDRs": [pods]},
            },
        )
        # Only when they do not run: kube-proxy ends itself when its configuration is written again.
        if not self._runs("kubelet"):
            self._start_kubelet()
        if not self._runs("proxy"):
            self._start_proxy()

    def ready(self, api: Api) -> bool:
        for name in ("containerd", "kubelet", "proxy"):
            self._processes.require(self.daemon(name))
        status = (api.get(f"/api/v1/nodes/{self.name}") or {}).get("status", {})
        for condition in status.get("conditions", []):
            if condition["type"] == "Ready" and condition["status"] == "True":
                # A node that was lost a moment ago still counts as ready; its kubelet must have
                # spoken since.
                return (
                    datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp()
                    >= self._joined
                )
        return False

    def stop(self) -> bool:
        """Lose the node: nothing in it gets the chance to say goodbye. True when it ran."""
        was_running = self._processes.stop(self.name, grace=0)
        for name in self._processes.names():
            if name.startswith(self.daemon("")):
                self._processes.wait_for_end(name)
        cgroups.remove(self.name)
        return was_running

    def load(self, archive: Path, once: bool = False) -> None:
        """Import a docker or OCI archive into the node's image store.

        With `once`, an archive of this name is imported only if it never was; such a name must tell
        the content.
        """
        loaded = self._image_store / "loaded" / archive.name
        if once and loaded.exists():
            return
        self.ctr("images", "import", "-", stdin=archive)
        loaded.parent.mkdir(exist_ok=True)
        loaded.touch()

    def ctr(self, *arguments: str, stdin: Path | None = None) -> str:
        """Run containerd's own client in the node."""
        client = self._binaries.path("ctr")
        argv: list[Argument] = [
            client,
            "--address",
            nodeconfig.SOCKET,
            "--namespace",
            "k8s.io",
            *arguments,
        ]
        return run(self._inside(argv), f"`ctr {' '.join(arguments[:2])}` on {self.name}", stdin)

    def run_inside(self, script: str, doing: str) -> str:
        """Run shell commands in the node."""
        return run(self._inside(["sh", "-c", script]), doing)

    def start_daemon(
        self, name: str, argv: Sequence[Argument], env: Mapping[str, str] | None = None
    ) -> None:
        """Start a program that runs in the node for as long as the node does."""
        self._processes.start(self.daemon(name), self._inside(argv), env)

    def daemon(self, name: str) -> str:
        """The name under which a program of this node is recorded."""
        return f"{self.name}-{name}"

    def _runs(self, name: str) -> bool:
        return self._processes.pid(self.daemon(name)) is not None

    def _inside(self, argv: Sequence[Argument]) -> list[Argument]:
        holder = self._processes.pid(self.name)
        first = children(holder) if holder else []
        if not first:
            raise ClusterError(f"{self.name} is not running.")
        return [
            "nsenter",
            "--target",
            str(first[0]),
            "--mount",
            "--net",
            "--pid",
            "--uts",
            "--",
            *argv,
        ]

    def _mount_image_store(self) -> None:
        """Images are unpacked in memory.

        On a disk, removing their many small files took longer than all the rest.

        The rest of the node's /var/lib is on the disk. Volumes must be, for what a pod writes to a
        memory file system counts as its own memory.
        """
        if not self._image_store.is_mount():
            run(
                [
                    "mount",
                    "--no-mtab",
                    "-t",
                    "tmpfs",
                    "-o",
                    "mode=711",
                    "images",
                    self._image_store,
                ],
                f"Mounting the image store of {self.name}",
            )

    def _make_namespaces(self) -> None:
        cgroups.remove(self.name)  # what an earlier life may have left
        cgroups.create(self.name)
        pause = self._binaries.path("pause")
        holder = self._processes.start(
            self.name,
            [
                "unshare",
                "--mount",
                "--net",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--propagation",
                "slave",
                "--",
                pause,
            ],
        )

        def begun() -> bool:
            self._processes.require(self.name)
            return any(Path(f"/proc/{pid}/exe").resolve() == pause for pid in children(holder))

        wait_until(begun, f"The first process of {self.name}", 10, self._processes.log(self.name))
        network.plug_in(self.number, children(holder)[0])
        script = network.enter_script(
            self.number, self.name, self._folder / "lib", self._folder / "log"
        )
        self.run_inside(script, f"Furnishing {self.name}")

    def _start_kubelet(self) -> None:
        login = f"kubelet-{self.name}"
        self._authority.issue(
            login,
            f"/O=system:nodes/CN=system:node:{self.name}",
            "clientAuth,serverAuth",
            f"DNS:{self.name},IP:{self.address}",
        )
        kubeconfig = self._authority.kubeconfig(
            self._etc / "kubelet.kubeconfig", login, network.API_SERVER
        )
        # Pods do not see this machine's resolver: what the cluster's DNS does not know does not
        # exist.
        resolver = self._etc / "resolv.conf"
        resolver.write_text("# no resolver: pods cannot reach beyond this machine\n")
        config = self._etc / "kubelet.json"
        config.write_text(
            nodeconfig.kubelet(self.name, self.address, self._authority, login, resolver)
        )
        self._joined = int(time.time())
        self.start_daemon(
            "kubelet",
            [
                self._binaries.path("kubelet"),
                f"--config={config}",
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address}",
            ],
        )

    def _start_proxy(self) -> None:
        kubeconfig = self._authority.kubeconfig(
            self._etc / "proxy.kubeconfig", "proxy", network.API_SERVER
        )
        config = self._etc / "proxy.json"
        config.write_text(nodeconfig.proxy(self.name, kubeconfig))
        self.start_daemon("proxy", [self._binaries.path("kube-proxy"), f"--config={config}"])
