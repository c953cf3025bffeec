"""How this program was called, so that the commands that it prints run as they stand."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def program() -> tuple[str, ...]:
    """`mailrelay` where a shell finds just this one by its name, else its path."""
    called = Path(sys.argv[0])
    if called.name == "kubectl-mailrelay":
        return ("kubectl", "mailrelay")
    found = shutil.which("mailrelay")
    if found is not None and called.exists() and Path(found).samefile(called):
        return ("mailrelay",)
    return (str(called.absolute()) if called.exists() else "mailrelay",)
