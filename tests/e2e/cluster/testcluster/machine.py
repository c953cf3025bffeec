"""This machine's way to package registries, lent to an image build without entering the image."""

import configparser
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from .processes import run

CERTIFICATES = Path("/etc/ssl/certs")
BUNDLE = CERTIFICATES / "ca-certificates.crt"
DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# What of pip's configuration is about the way to the index; the rest is the Dockerfile's own
# business.
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")


def debian_sources() -> list[tuple[str, str, str]]:
    """The Debian archives that apt is configured with: (address, suite, component)."""
    template = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    listing = run(
        ["apt-get", "indextargets", "--format", template, "Created-By: Packages"],
        "Asking apt for its sources",
    )
    rows = [line.split("|") for line in listing.splitlines()]
    return list(
        dict.fromkeys(
            (uri, suite, component) for origin, uri, suite, component in rows if origin == "Debian"
        )
    )


def apt_sources() -> str:
    """The same, as a sources.list."""
    lines = (f"{uri} {suite} {component}" for uri, suite, component in debian_sources())
    return "".join(f"deb [signed-by={DEBIAN_KEYRING}] {line}\n" for line in lines)


def apt_options() -> str:
    """The part of apt's configuration that says how to download."""
    dump = run(["apt-config", "dump"], "Reading apt's configuration").splitlines()
    return "".join(f"{line}\n" for line in dump if line.startswith("Acquire::"))


def pip_options(environment: Mapping[str, str] = os.environ) -> str:
    """A pip.conf of the machine's own files and the PIP_ variables, which win as they do in pip."""
    home = Path(environment.get("HOME", "/"))
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    if named := environment.get("PIP_CONFIG_FILE"):
        files.append(Path(named))
    found = configparser.RawConfigParser()
    found.read(files)
    made = configparser.RawConfigParser()
    made["global"] = {"cert": str(BUNDLE)}
    for option in PIP_OPTIONS:
        variable = "PIP_" + option.replace("-", "_").upper()
        value = environment.get(variable) or found.get("global", option, fallback="")
        if value:
            made["global"][option] = value
    lines = [f"{name} = {value}" for name, value in made["global"].items()]
    return "[global]\n" + "\n".join(lines) + "\n"


def stage(folder: Path) -> list[tuple[Path, str]]:
    """Write it all into a folder; returns what to mount where during a build.

    The certificates are copied, links followed, so that a build may write there (a package that
    updates them does) without changing this machine's.
    """
    certificates = folder / "certificates"
    shutil.copytree(CERTIFICATES, certificates, ignore_dangling_symlinks=True)
    files = {"pip.conf": pip_options(), "apt.conf": apt_options()}
    for name, text in files.items():
        (folder / name).write_text(text)
    mounts = [
        (certificates, str(CERTIFICATES)),
        (folder / "pip.conf", "/etc/pip.conf"),
        (folder / "apt.conf", "/etc/apt/apt.conf.d/99machine"),
    ]
    if sources := apt_sources():
        (folder / "sources").mkdir()
        (folder / "sources" / "machine.list").write_text(sources)
        mounts.append((folder / "sources", "/etc/apt/sources.list.d"))
    if any(Path("/etc/apt/auth.conf.d").glob("*")):
        mounts.append((Path("/etc/apt/auth.conf.d"), "/etc/apt/auth.conf.d"))
    return mounts
