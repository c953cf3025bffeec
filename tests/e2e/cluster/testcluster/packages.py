"""The Debian packages the test bed needs."""

import os
import subprocess
from collections.abc import Sequence

from .processes import run
from .report import step

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
    run(["apt-get", "update"], "Updating the package lists", env=environment)
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    run(command, "Installing packages", env=environment)
