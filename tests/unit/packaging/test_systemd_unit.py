"""The unit of systemd: what systemd says of it, and that it calls the program as it is."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click

from mailrelay_operator.cli.gatewayprocess import STOP_PATIENCE
from mailrelay_operator.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
UNIT = ROOT / "packaging" / "mailrelay.service"


def settings() -> dict[str, str]:
    lines = [line for line in UNIT.read_text().splitlines() if "=" in line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    installed = shlex.split(settings()["ExecStart"])[0]
    ours = str(Path(sys.executable).with_name("mailrelay"))
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(installed, ours))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_command_has_no_option_that_up_does_not_know() -> None:
    program, command, *arguments = shlex.split(settings()["ExecStart"])
    assert program.endswith("/mailrelay")
    assert command == "up"
    up = main.get_command(click.Context(main), "up")
    assert up is not None
    context = up.make_context("up", [*arguments], resilient_parsing=False)
    assert str(context.params["data"]) == f"/var/lib/{settings()['StateDirectory']}"


def test_systemd_waits_longer_for_a_stop_than_up_does() -> None:
    assert int(settings()["TimeoutStopSec"]) > STOP_PATIENCE


def test_a_file_that_cannot_be_used_is_not_tried_again_and_again() -> None:
    assert settings()["RestartPreventExitStatus"] == "2"
