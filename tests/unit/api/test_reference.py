"""The reference pages are what the code says."""

import subprocess
import sys
from pathlib import Path

from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.api.reference import api_page, reasons_page

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_pages_are_current() -> None:
    program = [sys.executable, str(ROOT / "docs/reference/generate.py"), "--check"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_reference_tells_default_bounds_rules_and_what_acts() -> None:
    page = api_page()
    assert "| `replicas` | integer 1 to 100 | `1` | yes | Number of gateway pods" in page
    assert "| `proxyProtocol` | object |  | not yet |" in page
    assert "### MailRelay `spec.listeners[].tls`" in page
    assert "- StartTLS is for SMTP only: set tls.mode to Implicit." in page


def test_every_reason_is_explained() -> None:
    said = [(451, "4.7.1", "Wait {seconds} s"), (550, "5.7.1", "Write <a@b>")]
    page = reasons_page([("Greylisted", "Come back.", said), ("Gone", "Away.", [])])
    assert all(f"| `{reason.value}` |" in page for reason in Reason)
    row = "| 451<br>550 | 4.7.1<br>5.7.1 | Wait {seconds} s<br>Write &lt;a@b&gt; |"
    assert f"| `Greylisted` | Come back. {row}" in page
    assert "| `Gone` | Away. |  |  |  |" in page
