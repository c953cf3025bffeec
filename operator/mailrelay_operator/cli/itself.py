"""How this program was called, so that the commands that it prints can be run unchanged."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def program() -> tuple[str, ...]:
    """`mailrelay` if that is this program in the shell's PATH, otherwise its path."""
    called = Path(sys.argv[0])
    if called.name == "kubectl-mailrelay":
        return ("kubectl", "mailrelay")
    found = shutil.which("mailrelay")
    if found is not None and called.exists() and Path(found).samefile(called):
        return ("mailrelay",)
    return (str(called.absolute()) if called.exists() else "mailrelay",)
