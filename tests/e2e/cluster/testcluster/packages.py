"""The Debian packages the test bed needs."""

import os
import subprocess
from collections.abc import Sequence

from .layout import SOURCE
from .processes import Argument, run
from .report import step

#: apt-get that waits, for a bounded time, while another apt holds a lock.
APT_GET: tuple[Argument, ...] = (SOURCE.parents[2] / "scripts" / "wait-for-apt", "apt-get")

NEEDED = (
    "buildah",
    "ca-certificates",
    "containernetworking-plugins",
    "debootstrap",
    "iproute2",
    "iptables",
    "openssl",
    "runc",
    "wget",  # debootstrap downloads with it
)


def missing(wanted: Sequence[str]) -> list[str]:
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *wanted]
    answer = subprocess.run(query, capture_output=True, text=True).stdout
    installed = {line.split()[0] for line in answer.splitlines() if line.endswith(" installed")}
    return [package for package in wanted if package not in installed]


def install(wanted: Sequence[str] = NEEDED) -> None:
    packages = missing(wanted)
    if not packages:
        return
    step(f"Installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run([*APT_GET, "update"], "Updating the package lists", env=environment)
    command = [*APT_GET, "install", "-y", "--no-install-recommends", *packages]
    run(command, "Installing packages", env=environment)
