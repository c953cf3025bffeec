"""CoreDNS, the cluster's name server."""

import socket
import struct

from . import manifests, network
from .binaries import Binaries
from .images import COREDNS_IMAGE
from .layout import Layout


def deploy(layout: Layout, binaries: Binaries) -> None:
    text = manifests.render("coredns", IMAGE=COREDNS_IMAGE, ADDRESS=network.DNS_SERVICE)
    manifests.apply(layout, binaries, text, "CoreDNS")


def answers() -> bool:
    """Ask for a name, through the Service, so that kube-proxy is proved as well."""
    name = b"".join(
        bytes([len(label)]) + label for label in b"kubernetes.default.svc.cluster.local".split(b".")
    )
    header = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0)  # one question, recursion desired
    question = name + b"\0" + struct.pack(">2H", 1, 1)  # its address, on the internet
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(0.5)
        try:
            server.sendto(header + question, (network.DNS_SERVICE, 53))
            answer = server.recv(512)
        except OSError:
            return False
    return socket.inet_aton(network.FIRST_SERVICE) in answer
