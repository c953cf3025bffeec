"""PURE modules decide and nothing else: no await, clock, randomness or I/O (ARCHITECTURE.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PURE = (
    "gateway/mailrelay_gateway/contract",
    "gateway/mailrelay_gateway/reasons.py",
    "gateway/mailrelay_gateway/smtp",
    "gateway/mailrelay_gateway/message",
    "gateway/mailrelay_gateway/policy",
    "gateway/mailrelay_gateway/queue/item.py",
    "gateway/mailrelay_gateway/queue/retry.py",
    "gateway/mailrelay_gateway/queue/audit.py",
    "gateway/mailrelay_gateway/queue/lane.py",
    "gateway/mailrelay_gateway/queue/turns.py",
    "gateway/mailrelay_gateway/couriers/replies",
    "gateway/mailrelay_gateway/couriers/smtp/breaker.py",
    "gateway/mailrelay_gateway/couriers/smtp/barren.py",
    "gateway/mailrelay_gateway/couriers/smtp/health.py",
    "gateway/mailrelay_gateway/couriers/smtp/openings.py",
    "gateway/mailrelay_gateway/couriers/smtp/stalls.py",
    "operator/mailrelay_operator/api",
    "operator/mailrelay_operator/plan",
    "operator/mailrelay_operator/engine/backlog.py",
    "operator/mailrelay_operator/engine/ringing.py",
    "operator/mailrelay_operator/engine/scope.py",
    "operator/mailrelay_operator/engine/store.py",
)

# Programs inside a pure folder: what runs as `python -m` may write files.
PROGRAMS = ("operator/mailrelay_operator/api/crd.py",)

IMPURE_MODULES = frozenset(
    {
        "aiohttp",
        "apsw",
        "asyncio",
        "multiprocessing",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "tempfile",
        "threading",
        "time",
    }
)
# Modules whose types are welcome as arguments and whose functions of the same name are not.
IMPURE_MEMBERS = {
    "date": {"today"},
    "datetime": {"now", "today", "utcnow"},
    "os": {"environ", "getenv", "getpid", "listdir", "open", "scandir", "stat", "urandom"},
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
    {"mkdir", "read_bytes", "read_text", "unlink", "write_bytes", "write_text"}
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


def pure_files() -> list[Path]:
    found: list[Path] = []
    for name in PURE:
        path = ROOT / name
        found += path.rglob("*.py") if path.is_dir() else [path] if path.exists() else []
    return sorted(path for path in found if str(path.relative_to(ROOT)) not in PROGRAMS)


@pytest.mark.parametrize("path", pure_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pure_module_does_nothing_but_decide(path: Path) -> None:
    assert list(impurities(path.read_text())) == []


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
    ],
)
def test_the_check_sees_what_is_impure(source: str) -> None:
    assert list(impurities(source))


def test_the_check_lets_arguments_be() -> None:
    source = """
from random import Random
from datetime import datetime
def decide(rng: Random, now: datetime) -> float:
    return rng.random() + now.timestamp()
"""
    assert list(impurities(source)) == []
