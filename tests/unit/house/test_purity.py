"""A module whose docstring says "Pure." decides and nothing else: no await, clock, randomness or
I/O (ARCHITECTURE.md). Every module of a pure package says it.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CODE = ("gateway/mailrelay_gateway", "operator/mailrelay_operator")

#: Packages that are pure as a whole: those that ARCHITECTURE.md marks so, and one room in another.
PACKAGES = (
    "gateway/mailrelay_gateway/contract",
    "gateway/mailrelay_gateway/smtp",
    "gateway/mailrelay_gateway/message",
    "gateway/mailrelay_gateway/policy",
    "gateway/mailrelay_gateway/couriers/replies",
    "operator/mailrelay_operator/api",
    "operator/mailrelay_operator/plan",
)

#: Single modules that must stay pure, in packages that are not.
MODULES = (
    "gateway/mailrelay_gateway/reasons.py",
    "gateway/mailrelay_gateway/queue/audit.py",
    "gateway/mailrelay_gateway/queue/item.py",
    "gateway/mailrelay_gateway/queue/lane.py",
    "gateway/mailrelay_gateway/queue/retry.py",
    "gateway/mailrelay_gateway/queue/turns.py",
    "gateway/mailrelay_gateway/couriers/oauth2/answers.py",
    "gateway/mailrelay_gateway/couriers/oauth2/requests.py",
    "gateway/mailrelay_gateway/couriers/oauth2/schedule.py",
    "gateway/mailrelay_gateway/egress/rules.py",
    "gateway/mailrelay_gateway/couriers/smtp/breaker.py",
    "gateway/mailrelay_gateway/couriers/smtp/health.py",
    "gateway/mailrelay_gateway/couriers/smtp/openings.py",
    "gateway/mailrelay_gateway/couriers/smtp/stalls.py",
    "operator/mailrelay_operator/engine/backlog.py",
    "operator/mailrelay_operator/engine/ringing.py",
    "operator/mailrelay_operator/engine/scope.py",
    "operator/mailrelay_operator/engine/store.py",
)

#: What runs as `python -m` inside a pure package, and may write files.
PROGRAMS = ("operator/mailrelay_operator/api/crd.py",)

SAYS_SO = re.compile(r"\bPure\b")

IMPURE_MODULES = frozenset(
    {
        "aiohttp",
        "apsw",
        "asyncio",
        "concurrent",
        "glob",
        "http",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "structlog",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "uvloop",
    }
)
# Modules whose types are welcome as arguments and whose functions of the same name are not.
IMPURE_MEMBERS = {
    "date": {"today"},
    "datetime": {"now", "today", "utcnow"},
    "random": {
        "choice",
        "choices",
        "getrandbits",
        "randbytes",
        "randint",
        "random",
        "randrange",
        "shuffle",
        "uniform",
        "SystemRandom",
    },
    "uuid": {"getnode", "uuid1", "uuid4", "uuid6", "uuid7"},
}
IMPURE_METHODS = frozenset(
    {
        "exists",
        "is_dir",
        "is_file",
        "iterdir",
        "mkdir",
        "open",
        "read_bytes",
        "read_text",
        "rglob",
        "stat",
        "unlink",
        "write_bytes",
        "write_text",
    }
)
IMPURE_CALLS = frozenset({"breakpoint", "input", "open", "print"})


def impurities(source: str) -> Iterator[str]:
    """Every place in a module's source that awaits, reads a clock, draws a number or does I/O."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield f"line {node.lineno}: async code"
            case ast.Import(names=names):
                for name in names:
                    if name.name.split(".")[0] in IMPURE_MODULES:
                        yield f"line {node.lineno}: import {name.name}"
            case ast.ImportFrom(module=str(module), names=names):
                if module.split(".")[0] in IMPURE_MODULES:
                    yield f"line {node.lineno}: from {module} import"
                for name in names:
                    if name.name in IMPURE_MEMBERS.get(module.split(".")[-1], set()):
                        yield f"line {node.lineno}: from {module} import {name.name}"
            case ast.Attribute(value=ast.Name(id=owner), attr=attr):
                if attr in IMPURE_MEMBERS.get(owner, set()):
                    yield f"line {node.lineno}: {owner}.{attr}"
            case ast.Attribute(value=ast.Attribute(attr=owner), attr=attr):
                if attr in IMPURE_MEMBERS.get(owner, set()):
                    yield f"line {node.lineno}: ...{owner}.{attr}"
            case ast.Call(func=ast.Name(id=called)) if called in IMPURE_CALLS:
                yield f"line {node.lineno}: {called}()"
            case ast.Call(func=ast.Attribute(attr=called)) if called in IMPURE_METHODS:
                yield f"line {node.lineno}: .{called}()"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def claims(source: str) -> bool:
    """Whether a module's docstring says that it is pure."""
    return SAYS_SO.search(ast.get_docstring(ast.parse(source)) or "") is not None


@cache
def claimants() -> list[Path]:
    """The modules whose docstring says so."""
    modules = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
    return [path for path in modules if claims(path.read_text())]


@pytest.mark.parametrize("path", claimants(), ids=named)
def test_a_pure_module_does_nothing_but_decide(path: Path) -> None:
    assert list(impurities(path.read_text())) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_of_a_pure_package_says_so(package: str) -> None:
    modules = {named(path) for path in (ROOT / package).rglob("*.py")}
    assert modules, f"{package} is gone: take it off the list, or say where it went"
    assert modules - set(PROGRAMS) - {named(path) for path in claimants()} == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_must_be_pure_says_so(module: str) -> None:
    assert (ROOT / module).is_file(), f"{module} is gone: say where it went"
    assert module in {named(path) for path in claimants()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_among_them_is_there_and_claims_nothing(program: str) -> None:
    assert (ROOT / program).is_file()
    assert program not in {named(path) for path in claimants()}
    assert list(impurities((ROOT / program).read_text())), "it is pure: let it say so"


def test_architecture_md_marks_the_same_packages() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    marked = set(re.findall(r"^ +(\w+)/ +PURE", page, re.MULTILINE))
    assert marked == {package.split("/", 2)[2] for package in PACKAGES} - {"couriers/replies"}


@pytest.mark.parametrize(
    "source",
    [
        "async def f(): ...",
        "import time",
        "from time import monotonic",
        "import datetime\nnow = datetime.datetime.now()",
        "from datetime import datetime\nnow = datetime.now(UTC)",
        "import random\nx = random.random()",
        "from random import choice",
        "from uuid import uuid4",
        "import os\nx = os.environ['HOME']",
        "open('/etc/passwd')",
        "Path('x').read_text()",
        "import socket as s",
        "import os",
        "from os import environ",
        "import asyncio.events",
        "from concurrent.futures import Future",
        "import ssl",
    ],
)
def test_the_check_sees_what_is_impure(source: str) -> None:
    assert list(impurities(source))


@pytest.mark.parametrize(
    ("docstring", "claimed"),
    [
        ("What an outcome means. Pure.", True),
        ("Pure: a value only.", True),
        ("First line.\n\nPure; knows no commands.", True),
        ("Carries out what pure functions decide.", False),
        ("Purely decorative.", False),
        ("", False),
    ],
)
def test_what_a_docstring_says_is_read(docstring: str, claimed: bool) -> None:
    assert claims(f'"""{docstring}"""\n') is claimed


def test_the_check_lets_arguments_be() -> None:
    source = """
from random import Random
from datetime import datetime
def decide(rng: Random, now: datetime) -> float:
    return rng.random() + now.timestamp()
"""
    assert list(impurities(source)) == []
