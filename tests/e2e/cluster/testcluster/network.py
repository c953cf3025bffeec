"""Addresses, and the bridge that joins the nodes to this machine.

    this machine (etcd, API server, ...)   10.200.0.1   on the bridge
    node N                                 10.200.0.1N  one end of a cable, the other on the bridge
    pods of node N                         10.244.N.0/24
    Services                               10.96.0.0/16

No packet is masqueraded on its way out, so nothing of the cluster can reach beyond this machine.
"""

import json
import subprocess
from pathlib import Path

from .processes import run

BRIDGE = "mailrelay0"
HOST = "10.200.0.1"
PREFIX = 24
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
API_SERVER = f"https://{HOST}:6443"
MAX_NODES = 9


def node_address(number: int) -> str:
    return f"10.200.0.{10 + number}"


def pod_range(number: int) -> str:
    return f"10.244.{number}.0/24"


def cable(number: int) -> str:
    """The name of this machine's end of a node's cable."""
    return f"mailrelay-n{number}"


def _links() -> list[str]:
    return [
        link["ifname"]
        for link in json.loads(run(["ip", "-json", "link", "show"], "Listing the links"))
    ]


def create_bridge() -> None:
    if BRIDGE not in _links():
        run(["ip", "link", "add", BRIDGE, "type", "bridge"], "Making the bridge")
        run(
            ["ip", "address", "add", f"{HOST}/{PREFIX}", "dev", BRIDGE],
            "Giving the bridge its address",
        )
    run(["ip", "link", "set", BRIDGE, "up"], "Switching the bridge on")


def plug_in(number: int, node_pid: int) -> None:
    """Run a cable from the bridge into a node's network namespace, where its end is called eth0."""
    if cable(number) not in _links():
        run(
            [
                "ip",
                "link",
                "add",
                cable(number),
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                str(node_pid),
            ],
            f"Making the cable of node {number}",
        )
    run(["ip", "link", "set", cable(number), "master", BRIDGE, "up"], f"Plugging in node {number}")
    route(pod_range(number), node_address(number))


def route(destination: str, gateway: str) -> None:
    run(["ip", "route", "replace", destination, "via", gateway], f"Routing {destination}")


def route_services(running: list[int]) -> None:
    """This machine reaches Services through the first running node, whose kube-proxy does it."""
    if running:
        route(SERVICE_RANGE, node_address(min(running)))


def switch(number: int, state: str) -> None:
    """Cut ("down") or heal ("up") the cable of a node."""
    run(["ip", "link", "set", cable(number), state], f"Setting the cable of node {number} {state}")


def remove() -> bool:
    """Take away all links (their routes go with them); True when there was something."""
    ours = [name for name in _links() if name == BRIDGE or name.startswith(cable(0)[:-1])]
    for name in ours:
        # A cable vanishes by itself when its node's namespace does; losing that race is fine.
        subprocess.run(["ip", "link", "delete", name], capture_output=True)
    return bool(ours)


def enter_script(number: int, name: str, library: Path, log: Path) -> str:
    """Shell commands that turn a set of fresh namespaces into node N (run inside them)."""
    others = "\n".join(
        f"ip route replace {pod_range(other)} via {node_address(other)}"
        for other in range(1, MAX_NODES + 1)
        if other != number
    )
    return f"""set -e
hostname {name}
mount --no-mtab -t tmpfs -o mode=755 run /run
mount --make-rshared /
mount --rbind "{library}" /var/lib
mount --bind "{log}" /var/log
ip link set lo up
ip address replace {node_address(number)}/{PREFIX} dev eth0
ip link set eth0 up
ip route replace default via {HOST}
{others}
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
"""
