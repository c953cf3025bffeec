"""No test of aiosmtpd's is forgotten: a release that brings others is noticed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import aiosmtpd

from tests.integration.aiosmtpd_dialogs.theirs import DIALOGS, OTHERS, modules
from tests.integration.aiosmtpd_dialogs.verdicts import read


def test_every_test_of_a_dialog_has_a_verdict_and_every_verdict_a_test() -> None:
    file = Path(__file__).with_name("test_dialogs.py")
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", str(file)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stdout
    found = [line.partition("::")[2] for line in listed.stdout.splitlines() if "::" in line]
    assert sorted(found) == sorted(read()), f"aiosmtpd {aiosmtpd.__version__} has other tests"


def test_every_module_of_tests_is_run_or_left_out_for_a_reason() -> None:
    assert modules() == {*DIALOGS, *OTHERS}
