"""A client as an application has it: Python's smtplib, STARTTLS verified with the CA of its Secret.

Standard input is one JSON object: `secret` (a folder to read host, port, username, password and
ca.crt from) or these five as keys; `sender`, `recipients`, `messages` (base64 each, sent one after
the other on one connection), `pause` (seconds between them). Standard output is one JSON object:
`tls`, `results` (`code`, `text` for each message that got an answer) and, where the session ended
early, `error` with its `stage`, `code` and `text`. What was answered 250 is the gateway's.
"""

import base64
import json
import smtplib
import ssl
import sys
import time
from pathlib import Path
from typing import Any

#: Seconds for each reply; the tests' own deadlines are longer.
DEADLINE = 15
KEYS = ("host", "port", "username", "password", "ca.crt")


def binding(job: dict[str, Any]) -> dict[str, str]:
    """The five values, from the Secret's folder or the job itself."""
    if folder := job.get("secret"):
        return {key: (Path(folder) / key).read_text() for key in KEYS}
    return {key: str(job[key]) for key in KEYS}


def submit(job: dict[str, Any], report: dict[str, Any]) -> None:
    """Send all messages; `report` tells how far we came, whatever is raised."""
    told = binding(job)
    report["error"]["stage"] = "connect"
    with smtplib.SMTP(told["host"], int(told["port"]), timeout=DEADLINE) as smtp:
        report["error"]["stage"] = "starttls"
        smtp.starttls(context=ssl.create_default_context(cadata=told["ca.crt"]))
        report["tls"] = smtp.sock.version() if isinstance(smtp.sock, ssl.SSLSocket) else ""
        report["error"]["stage"] = "auth"
        smtp.login(told["username"], told["password"])
        for number, message in enumerate(job["messages"]):
            if number:
                time.sleep(float(job.get("pause", 0)))
            report["error"]["stage"] = "message"
            code, text = transaction(smtp, job, base64.b64decode(message))
            report["results"].append({"code": code, "text": text})
        report["error"]["stage"] = "quit"


def transaction(smtp: smtplib.SMTP, job: dict[str, Any], message: bytes) -> tuple[int, str]:
    """One message; the first reply that is not what it should be, or the reply to the final dot."""
    code, text = smtp.mail(job["sender"], [f"SIZE={len(message)}"])
    for recipient in job["recipients"]:
        if code == 250:
            code, text = smtp.rcpt(recipient)
    if code == 250:
        try:
            code, text = smtp.data(message)
        except smtplib.SMTPDataError as refused:
            code, text = refused.smtp_code, as_bytes(refused.smtp_error)
    if code != 250:
        smtp.rset()
    return code, text.decode(errors="replace")


def as_bytes(text: bytes | str) -> bytes:
    """smtplib gives a reply's text in either way."""
    return text.encode() if isinstance(text, str) else text


def main() -> None:
    """Do the job and say what came of it."""
    report: dict[str, Any] = {"tls": "", "results": [], "error": {"code": 0, "text": ""}}
    try:
        submit(json.load(sys.stdin), report)
        del report["error"]
    except smtplib.SMTPResponseException as refused:
        text = as_bytes(refused.smtp_error).decode(errors="replace")
        report["error"] |= {"code": refused.smtp_code, "text": text}
    except (OSError, smtplib.SMTPException) as broken:
        report["error"]["text"] = f"{type(broken).__name__}: {broken}"
    json.dump(report, sys.stdout)


main()
