"""Mail in the end-to-end tests: a client that submits it, and a sink that shows what arrived."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from typing import Any

from tests.e2e.kubectl import Kubectl, KubectlFailed, Manifest, eventually
from tests.e2e.manifests import SINK_PORT, address, peer_pod, peer_service

#: Folder of the peers' image that smtp-sink writes to.
SINK_FOLDER = "/sink"


def token() -> str:
    """A word that no other message holds."""
    return f"token-{uuid.uuid4().hex}"


def plain_message(word: str) -> bytes:
    """A small message with its own Date and Message-ID, so that nothing needs to be added."""
    return (
        f"From: App <app@example.com>\r\nTo: someone@example.net\r\nSubject: {word}\r\n"
        f"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{word}@example.com>\r\n\r\n"
        f"Hello, {word}.\r\n"
    ).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What a MailSender's Secret holds."""

    host: str
    port: int
    username: str
    password: str
    ca: str

    @classmethod
    def of(cls, secret: Manifest) -> Binding:
        """Read the Secret."""
        values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
        return cls(
            host=values["host"],
            port=int(values["port"]),
            username=values["username"],
            password=values["password"],
            ca=values["ca.crt"],
        )

    def with_login(self, username: str, password: str) -> Binding:
        """The same relay, another login."""
        return Binding(
            host=self.host, port=self.port, username=username, password=password, ca=self.ca
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the client saw: replies to messages, and where and how the session broke off, if so."""

    tls: str
    replies: tuple[tuple[int, str], ...]
    stage: str = ""
    code: int = 0
    text: str = ""

    @property
    def accepted(self) -> int:
        """Messages that were answered 250: from then on they are the gateway's."""
        return sum(code == 250 for code, _ in self.replies)

    @property
    def is_clean(self) -> bool:
        """Whether every message was taken and the session ended well."""
        return not self.stage and all(code == 250 for code, _ in self.replies)


class Client:
    """A pod that submits mail."""

    def __init__(self, kubectl: Kubectl, pod: str, namespace: str) -> None:
        self._kubectl = kubectl
        self.pod = pod
        self.namespace = namespace

    def send(
        self,
        source: Binding | str,
        *messages: bytes,
        sender: str = "app@example.com",
        recipients: tuple[str, ...] = ("someone@example.net",),
        pause: float = 0,
    ) -> Report:
        """Submit the messages in one session, with a login or the Secret mounted at a folder."""
        job: dict[str, Any] = {
            "sender": sender,
            "recipients": recipients,
            "messages": [base64.b64encode(message).decode() for message in messages],
            "pause": pause,
        }
        if isinstance(source, str):
            job["secret"] = source
        else:
            job |= {"host": source.host, "port": source.port, "ca.crt": source.ca}
            job |= {"username": source.username, "password": source.password}
        answer = json.loads(
            self._kubectl.exec(
                self.pod,
                self.namespace,
                "python3",
                "/peers/submit.py",
                stdin=json.dumps(job),
                deadline=60 + pause * len(messages),
            )
        )
        error = answer.get("error", {"stage": "", "code": 0, "text": ""})
        replies = tuple((reply["code"], reply["text"]) for reply in answer["results"])
        return Report(tls=answer["tls"], replies=replies, **error)

    def login_code(self, binding: Binding) -> int:
        """The reply to AUTH: 235 or a refusal; 0 when there was none."""
        report = self.send(binding)
        return report.code if report.stage in ("connect", "starttls", "auth") else 235


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A message in the sink, as it arrived there (lines end with LF)."""

    mail: tuple[str, ...]
    rcpt: tuple[str, ...]
    content: bytes


class Sink:
    """Postfix's smtp-sink in a pod with a Service, which can be taken down and brought back."""

    def __init__(self, kubectl: Kubectl, name: str, namespace: str) -> None:
        self._kubectl = kubectl
        self.name = name
        self.namespace = namespace

    @property
    def host(self) -> str:
        """Its name in DNS."""
        return address(self.name, self.namespace)

    def up(self, *options: str) -> None:
        """Start it, with more options for smtp-sink; what it had captured is gone."""
        command = ["smtp-sink", *options, "-d", f"{SINK_FOLDER}/%s."]
        command += [f"0.0.0.0:{SINK_PORT}", "200"]
        self._kubectl.apply(
            peer_service(self.name, self.namespace, SINK_PORT),
            peer_pod(self.name, self.namespace, command, port=SINK_PORT),
        )
        self._kubectl.wait("pod", self.name, self.namespace, "Ready", 60)

    def down(self) -> None:
        """Take it down: connections to it fail."""
        self._kubectl.delete("pod", self.name, self.namespace)

    def captured(self, word: str) -> tuple[Captured, ...]:
        """The messages whose content holds `word`."""
        try:
            text = self._kubectl.exec(
                self.name, self.namespace, "python3", "/peers/captured.py", SINK_FOLDER, word
            )
        except KubectlFailed:  # the pod is just starting
            return ()
        return tuple(
            Captured(
                mail=tuple(found["mail"]),
                rcpt=tuple(found["rcpt"]),
                content=base64.b64decode(found["content"]),
            )
            for found in json.loads(text)
        )

    def await_message(self, word: str, *, deadline: float = 30) -> Captured:
        """The message that holds `word`, once it has arrived; exactly one may."""
        found = eventually(
            lambda: self.captured(word), deadline=deadline, what=f"{word} in {self.name}"
        )
        assert len(found) == 1
        return found[0]

    def await_words(self, words: set[str], *, prefix: str, deadline: float = 60) -> list[str]:
        """The words (all begin with `prefix`) of what arrived, once all of `words` did.

        A word stands twice in the list when its message was delivered twice.
        """

        def arrived() -> list[str]:
            contents = [message.content.decode() for message in self.captured(prefix)]
            return [word for content in contents for word in words if f"Hello, {word}." in content]

        return eventually(
            lambda: seen if set(seen := arrived()) >= words else [],
            deadline=deadline,
            what=f"all {len(words)} messages of {prefix} in {self.name}",
        )
