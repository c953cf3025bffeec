"""Starts the gateway of the tree that it is pointed at, says where it listens, and stops it at the
end of its input.

    serve.py TREE FOLDER SINK_PORT

Of the tree it uses `Gateway` in tests/bench/relays.py and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path


def code_of(pid: int) -> Path:
    """Where the interpreter of that process finds the gateway's code."""
    python = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    program = "import mailrelay_gateway; print(mailrelay_gateway.__file__)"
    found = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


async def main(tree: Path, folder: Path, sink_port: int) -> None:
    """Serve until the end of the input."""
    # in place of this file's folder: the tree, so that `tests` is the tree's
    sys.path[0] = str(tree)
    from tests.bench.relays import Gateway

    gateway = Gateway(folder, sink_port)
    pid = await gateway.start()
    try:
        code = code_of(pid)
        if not code.is_relative_to(tree):
            raise RuntimeError(f"the gateway of {tree} runs {code}")
        print(json.dumps({"port": gateway.port, "pid": pid}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await gateway.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), int(sys.argv[3])))
