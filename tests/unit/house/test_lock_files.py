"""The lock files: exact, hashed, and free of addresses, so that any mirror serves them."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
REQUIREMENT = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ \\;]+)( ; [^\\]+)?( \\)?$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def locked(path: Path) -> dict[str, str]:
    """The names and versions in a lock file; a line of any other form fails."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("#") or HASH.match(line):
            continue
        requirement = REQUIREMENT.match(line)
        assert requirement, f"{path.name}: {line!r} is neither a requirement nor a hash"
        found[requirement["name"]] = requirement["version"]
    return found


def test_there_is_one_lock_for_development_and_one_per_image() -> None:
    assert [path.name for path in LOCKS] == ["dev.txt", "gateway.txt", "operator.txt"]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_is_hashed_and_names_no_address(path: Path) -> None:
    assert locked(path)
    assert "://" not in path.read_text()


@pytest.mark.parametrize("name", ["gateway.txt", "operator.txt"])
def test_an_image_has_the_versions_that_the_tests_ran_with(name: str) -> None:
    developed = locked(ROOT / "requirements/dev.txt")
    image = locked(ROOT / "requirements" / name)
    assert {name: developed.get(name) for name in image} == image


def test_the_gateway_image_holds_nothing_of_kubernetes() -> None:
    assert not {"kopf", "kubernetes", "click"} & locked(ROOT / "requirements/gateway.txt").keys()


def test_the_operator_image_holds_no_mail_libraries() -> None:
    assert not {"aiosmtpd", "apsw"} & locked(ROOT / "requirements/operator.txt").keys()


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        direct += [line for line in extra if not line.startswith("mailrelay[")]
    names = {re.split(r"[\[<>=]", line)[0].lower() for line in direct}
    assert names <= locked(ROOT / "requirements/dev.txt").keys()
