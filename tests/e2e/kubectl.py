"""kubectl as a Python object: every call has a deadline, every error its stderr."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any, TypeVar

Manifest = dict[str, Any]
T = TypeVar("T")

#: Seconds for one call of kubectl, where nothing else is said.
DEADLINE = 30.0
#: Seconds between two looks at something awaited.
INTERVAL = 0.25


class KubectlFailed(Exception):
    """kubectl ended with an error; `stderr` is what it said."""

    def __init__(self, words: tuple[str, ...], stderr: str) -> None:
        super().__init__(f"kubectl {' '.join(words)}: {stderr.strip()}")
        self.stderr = stderr


def eventually(question: Callable[[], T], *, deadline: float, what: str) -> T:
    """The first true answer; after `deadline` seconds an AssertionError with the last one."""
    ends = time.monotonic() + deadline
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > ends:
            raise AssertionError(f"not within {deadline:g} s: {what}; last: {answer!r}")
        time.sleep(INTERVAL)


class Kubectl:
    """The cluster of $KUBECONFIG."""

    def __init__(self, *identity: str) -> None:
        """`identity`: more words for every call, such as --as=..."""
        self._identity = identity

    def run(self, *words: str, stdin: str | None = None, deadline: float = DEADLINE) -> str:
        """Standard output; KubectlFailed."""
        done = subprocess.run(
            ["kubectl", *self._identity, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=deadline,
        )
        if done.returncode != 0:
            raise KubectlFailed(words, done.stderr)
        return done.stdout

    def apply(self, *manifests: Manifest, server_side: bool = False) -> None:
        """Apply the manifests, all in one call."""
        mode = ["--server-side", "--field-manager=e2e"] if server_side else []
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.run("apply", *mode, "-f", "-", stdin=json.dumps(bundle))

    def get(self, kind: str, name: str, namespace: str = "") -> Manifest | None:
        """The object, or None."""
        text = self.run("get", kind, name, *_in(namespace), "--ignore-not-found", "-o", "json")
        return json.loads(text) if text else None

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Manifest]:
        """All objects of the namespace that carry these labels."""
        chosen = ["--selector", selector] if selector else []
        listed = json.loads(self.run("get", kind, *_in(namespace), *chosen, "-o", "json"))
        return list(listed["items"])

    def patch(self, kind: str, name: str, namespace: str, patch: Manifest) -> None:
        """JSON merge patch."""
        self.run("patch", kind, name, *_in(namespace), "--type=merge", "-p", json.dumps(patch))

    def delete(self, kind: str, name: str, namespace: str = "", *, deadline: float = 60) -> None:
        """Delete, and wait until it is gone."""
        words = ["delete", kind, name, *_in(namespace), "--ignore-not-found"]
        self.run(*words, f"--timeout={deadline:g}s", deadline=deadline + 5)

    def wait(self, kind: str, name: str, namespace: str, condition: str, deadline: float) -> None:
        """Wait for a condition, such as `Ready` or `Accepted=False`."""
        words = ["wait", f"{kind}/{name}", *_in(namespace), f"--for=condition={condition}"]
        try:
            self.run(*words, f"--timeout={deadline:g}s", deadline=deadline + 5)
        except KubectlFailed as failed:
            found = self.get(kind, name, namespace) or {}
            raise AssertionError(f"{failed}\nstatus: {found.get('status')}") from None

    def exec(
        self, pod: str, namespace: str, *argv: str, stdin: str = "", deadline: float = DEADLINE
    ) -> str:
        """Run a program in a pod; its standard output."""
        return self.run(
            "exec", "-i", pod, *_in(namespace), "--", *argv, stdin=stdin, deadline=deadline
        )

    def raw(self, path: str) -> str:
        """GET of a path of the API server."""
        return self.run("get", "--raw", path)


def _in(namespace: str) -> list[str]:
    return ["--namespace", namespace] if namespace else []


def condition(manifest: Manifest | None, type_: str) -> Manifest:
    """The condition of this type; an empty one if it is not there."""
    conditions = ((manifest or {}).get("status") or {}).get("conditions") or ()
    return next((dict(c) for c in conditions if c["type"] == type_), {})


def peers_image() -> str:
    """The image with Postfix, swaks and our scripts."""
    return os.environ.get("MAILRELAY_PEERS_IMAGE", "mailrelay-peers:e2e")
