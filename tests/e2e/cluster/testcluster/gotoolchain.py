"""Finds a Go that can build the programs, or fetches one from the Go module proxy.

Go itself is a module there (golang.org/toolchain), which is how a `go` command brings itself up to
date. Its content is checked against the hash pinned here, so it does not matter whose proxy it is.
No proxy's address stands here either: it is $GOPROXY, or what any `go` on this machine, however
old, takes by default; Debian's is installed to be asked where there is none.
"""

import base64
import hashlib
import os
import platform
import shutil
import subprocess
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

from .layout import Layout
from .packages import install
from .processes import run
from .report import ClusterError, step

OLDEST = (1, 26)  # the `go` line of tools/*/go.mod
VERSION = "go1.26.8"
# The module's hash, as the Go checksum database has it (`go mod download -json` shows it as Sum).
HASHES = {
    "linux-amd64": "h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=",
    "linux-arm64": "h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=",
}
DEBIAN_PACKAGE = "golang-go"
USUAL_PLACES = ("go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go")
FETCH_SECONDS = 60  # without a byte


def find(layout: Layout, environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of a Go that is new enough."""
    fetched = layout.cache / VERSION / "bin" / "go"
    places = [*installed(environment), *([str(fetched)] if fetched.exists() else [])]
    for go in places:
        if version(go) >= OLDEST:
            return go
    platform_name = f"linux-{_architecture()}"
    if platform_name not in HASHES:
        raise ClusterError(
            f"Building Kubernetes takes Go {OLDEST[0]}.{OLDEST[1]} or newer; no hash of {VERSION} "
            f"for {platform_name} is pinned, so install it by hand."
        )
    fetch(platform_name, proxies(environment, places), fetched.parent.parent)
    return str(fetched)


def installed(environment: Mapping[str, str]) -> list[str]:
    """Every `go` of this machine."""
    found = (shutil.which(place, path=environment.get("PATH")) for place in USUAL_PLACES)
    return list(dict.fromkeys(place for place in found if place))


def version(go: str) -> tuple[int, ...]:
    """What a `go` says of itself, as (1, 26, 8); (0,) for one that does not run."""
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run([go, "version"], capture_output=True, text=True, env=environment)
    words = answer.stdout.split()
    if answer.returncode != 0 or len(words) < 3:
        return (0,)
    numbers = words[2].removeprefix("go").replace("rc", ".").replace("beta", ".").split(".")
    return tuple(int(number) for number in numbers if number.isdecimal())


def proxies(environment: Mapping[str, str], places: list[str]) -> list[str]:
    """The addresses to fetch modules from, in order: $GOPROXY, or what a `go` here knows."""
    value = environment.get("GOPROXY") or _default_proxy(places)
    listed = value.replace("|", ",").split(",")
    usable = [entry.strip().rstrip("/") for entry in listed if "://" in entry]
    if not usable:
        raise ClusterError(
            f"Building Kubernetes takes Go {OLDEST[0]}.{OLDEST[1]} or newer. It is not here, and "
            f"cannot be fetched, since GOPROXY={value!r} names no module proxy: install Go, or set "
            f"GOPROXY to the address of one."
        )
    return usable


def _default_proxy(places: list[str]) -> str:
    if not places:
        install((DEBIAN_PACKAGE,))  # 1.19: too old to build with, but it knows the way
        places = installed(os.environ)
    for go in places:
        if value := run([go, "env", "GOPROXY"], "Asking Go for its module proxy").strip():
            return value
    return ""


def fetch(platform_name: str, addresses: list[str], folder: Path) -> None:
    """Download, check and unpack the toolchain."""
    name = f"golang.org/toolchain@v0.0.1-{VERSION}.{platform_name}"
    module, module_version = name.split("@")
    step(f"Fetching {name} from the module proxy (70 MB)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    archive = folder.with_name(folder.name + ".zip")
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    errors = []
    for address in addresses:
        try:
            source = f"{address}/{module}/@v/{module_version}.zip"
            with (
                urllib.request.urlopen(source, timeout=FETCH_SECONDS) as answer,
                archive.open("wb") as file,
            ):
                shutil.copyfileobj(answer, file)
            break
        except (urllib.error.URLError, OSError) as error:
            errors.append(str(error))
    else:
        raise ClusterError(f"No module proxy gave {name}: {'; '.join(errors)}")
    try:
        found = module_hash(archive)
        if found != HASHES[platform_name]:
            raise ClusterError(f"{name} hashes to {found}, not to {HASHES[platform_name]}.")
        with zipfile.ZipFile(archive) as content:
            content.extractall(partial)
    finally:
        archive.unlink()
    # A module archive carries no permissions.
    tree = partial / name
    for programs in (tree / "bin", tree / "pkg" / "tool"):
        for path in programs.rglob("*"):
            if path.is_file():
                path.chmod(0o755)
    tree.rename(folder)
    shutil.rmtree(partial)
    step(f"{VERSION} is in {folder}")


def module_hash(archive: Path) -> str:
    """Go's hash of a module (golang.org/x/mod/sumdb/dirhash, Hash1).

    The SHA-256 of a list of files with theirs, so it does not depend on how they were compressed.
    """
    total = hashlib.sha256()
    with zipfile.ZipFile(archive) as content:
        for name in sorted(content.namelist()):
            with content.open(name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            total.update(f"{digest}  {name}\n".encode())
    return "h1:" + base64.b64encode(total.digest()).decode()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
