"""How the code of the page is run, one function for each client: what it gets is the block as it
stands there, an empty folder, and the environment of a pod.

What `make clients` installs lies in build/clients.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.ports import free_port

INSTALLED = Path(__file__).resolve().parents[2] / "build" / "clients"
#: Seconds for a program; a Java or Go that is compiled on a busy machine takes some of them.
DEADLINE = 120.0
ALERT = [{"labels": {"alertname": "Hello"}}]

Environment = Mapping[str, str]
Run = Callable[[str, Path, Environment], str]


def run(argv: list[str], folder: Path, environment: Environment) -> str:
    """What the program said on both outputs."""
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return done.stdout


def smtplib(code: str, folder: Path, environment: Environment) -> str:
    return _run_file([sys.executable], "send.py", code, folder, environment)


def shell(code: str, folder: Path, environment: Environment) -> str:
    return run(["sh", "-c", code], folder, environment)


def django(code: str, folder: Path, environment: Environment) -> str:
    (folder / "settings.py").write_text(code)
    program = (
        "import django; django.setup(); from django.core.mail import send_mail;"
        "send_mail('Hello', 'Hello.', None, ['someone@example.net'])"
    )
    said = {"DJANGO_SETTINGS_MODULE": "settings", "SSL_CERT_FILE": environment["SMTP_CA_FILE"]}
    python = str(INSTALLED / "venv" / "bin" / "python")
    return run([python, "-c", program], folder, {**environment, **said})


def nodemailer(code: str, folder: Path, environment: Environment) -> str:
    modules = {"NODE_PATH": str(INSTALLED / "node" / "node_modules")}
    return _run_file(["node"], "send.js", code, folder, {**environment, **modules})


def phpmailer(code: str, folder: Path, environment: Environment) -> str:
    return _run_php("libphp-phpmailer/autoload.php", code, folder, environment)


def symfony(code: str, folder: Path, environment: Environment) -> str:
    return _run_php("Symfony/Component/Mailer/autoload.php", code, folder, environment)


def java(code: str, folder: Path, environment: Environment) -> str:
    jars = ":".join(str(path) for path in sorted((INSTALLED / "java").glob("*.jar")))
    return _run_file(["java", "-cp", jars], "SendMail.java", code, folder, environment)


def go(code: str, folder: Path, environment: Environment) -> str:
    return _run_file(["go", "run"], "send.go", code, folder, environment)


def ruby(code: str, folder: Path, environment: Environment) -> str:
    return _run_file(["ruby"], "send.rb", code, folder, environment)


def alertmanager(code: str, folder: Path, environment: Environment) -> str:
    """One alert, until Alertmanager has said what became of its mail."""
    (folder / "password").write_text(environment["SMTP_PASSWORD"])
    config = (
        code.replace("HOST:PORT", f"{environment['SMTP_HOST']}:{environment['SMTP_PORT']}")
        .replace("USERNAME", environment["SMTP_USERNAME"])
        .replace("/etc/smtp/password", str(folder / "password"))
        .replace("/etc/smtp/ca.crt", environment["SMTP_CA_FILE"])
        .replace("{receiver: mail}", "{receiver: mail, group_wait: 0s}")  # 30 s unless said
    )
    (folder / "alertmanager.yml").write_text(config)
    port = free_port()
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus-alertmanager",
                *("--config.file=alertmanager.yml", f"--storage.path={folder}"),
                *(f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="),
                "--log.level=debug",
            ],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _post_alert(port)
        ends = time.monotonic() + DEADLINE
        while time.monotonic() < ends:
            said = log.read_text()
            if "Notify success" in said or "Notify attempt failed" in said:
                return said
            time.sleep(0.05)
        raise AssertionError(f"Alertmanager said nothing of its mail:\n{log.read_text()}")
    finally:
        process.kill()
        process.wait()


def _post_alert(port: int) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v2/alerts",
        json.dumps(ALERT).encode(),
        {"Content-Type": "application/json"},
    )
    ends = time.monotonic() + DEADLINE
    while True:
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
        else:
            return


def _run_file(argv: list[str], name: str, code: str, folder: Path, environment: Environment) -> str:
    (folder / name).write_text(code)
    return run([*argv, name], folder, environment)


def _run_php(autoload: str, code: str, folder: Path, environment: Environment) -> str:
    text = f"<?php\nrequire '/usr/share/php/{autoload}';\n{code}"
    return _run_file(["php", "-d", "display_errors=1"], "send.php", text, folder, environment)


#: By the headings of the page.
EVERYWHERE: Mapping[str, Run] = {"Python: smtplib": smtplib, "swaks": shell, "curl": shell}
INSTALLED_ONLY: Mapping[str, Run] = {
    "Django": django,
    "Node.js: nodemailer": nodemailer,
    "PHP: PHPMailer": phpmailer,
    "PHP: Symfony Mailer": symfony,
    "Java: Jakarta Mail": java,
    "Go: net/smtp": go,
    "Ruby: mail": ruby,
    "Alertmanager": alertmanager,
    "msmtp": shell,
}
