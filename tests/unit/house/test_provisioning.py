"""Provisioning waits for another apt, for a bounded time, and says why a step failed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from testcluster.packages import APT_GET
from testcluster.processes import run as run_in_cluster
from testcluster.report import ClusterError

from tests.e2e.provision import LAST_LINES, ProvisionError, images_for_people, run

WAIT_FOR_APT = Path(__file__).resolve().parents[3] / "scripts" / "wait-for-apt"
HELD = {
    "apt-get update": "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7",
    "apt-get install": "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend)",
    "dpkg": "dpkg: error: dpkg frontend lock was locked by another process with pid 7",
    "debconf": 'debconf: DbDriver "config": config.dat is locked by another process: Resource',
}


def wait_for_apt(script: str, *, seconds: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WAIT_FOR_APT, "sh", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "APT_WAIT": str(seconds)},
    )


@pytest.mark.parametrize("message", HELD.values(), ids=HELD.keys())
def test_a_lock_of_another_is_waited_for(message: str, tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    script = f"[ -e {tried} ] && exit 0; touch {tried}; echo '{message}' >&2; exit 100"
    done = wait_for_apt(script, seconds=60)
    assert done.returncode == 0
    assert "Waiting for another apt or dpkg" in done.stderr


def test_the_waiting_ends() -> None:
    done = wait_for_apt(f"echo '{HELD['apt-get update']}'; exit 100", seconds=0)
    assert done.returncode == 100
    assert "still holds its lock after 0 s" in done.stderr
    assert "held by process 7" in done.stderr


def test_another_failure_is_shown_at_once_by_its_last_lines() -> None:
    done = wait_for_apt("seq 100; echo 'E: Unable to locate package x' >&2; exit 100", seconds=60)
    assert done.returncode == 100
    assert "Waiting" not in done.stderr
    assert "E: Unable to locate package x" in done.stderr
    assert "    82\n" in done.stderr
    assert "    80\n" not in done.stderr


def test_success_is_quiet() -> None:
    done = wait_for_apt("echo much", seconds=0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failing_step_says_its_last_lines_of_both_outputs() -> None:
    program = (
        "import sys; [print(n) for n in range(100)]; sys.stdout.flush();"
        " print('the reason', file=sys.stderr); sys.exit(3)"
    )
    for capture in (True, False):
        with pytest.raises(ProvisionError, match="ended with 3") as failed:
            run([sys.executable, "-c", program], capture=capture)
        lines = str(failed.value).splitlines()[1:]
        assert len(lines) == LAST_LINES + 1
        assert {"    the reason", "    99"} <= set(lines)


def test_a_step_that_goes_well_gives_its_stdout() -> None:
    program = "import sys; print('a\\nb'); print('noise', file=sys.stderr)"
    assert run([sys.executable, "-c", program], capture=True) == "a\nb\n"


def test_a_step_may_leave_something_running_that_keeps_its_outputs_open() -> None:
    said = run(["sh", "-c", "sleep 60 & echo $!"], capture=True)
    os.kill(int(said), signal.SIGTERM)


def test_the_cluster_s_build_shows_both_outputs_too() -> None:
    # dpkg gives the reason on stdout, apt-get then counts the errors on stderr.
    with pytest.raises(ClusterError, match="Installing failed") as failed:
        run_in_cluster(["sh", "-c", "echo the reason; echo 1 error >&2; exit 1"], "Installing")
    assert "    the reason" in str(failed.value)
    assert "    1 error" in str(failed.value)


def test_the_cluster_s_build_waits_for_apt_too() -> None:
    assert APT_GET == (WAIT_FOR_APT, "apt-get")


def test_make_images_builds_what_the_chart_asks_for() -> None:
    chart = Path(__file__).resolve().parents[3] / "charts" / "mailrelay"
    values = yaml.safe_load((chart / "values.yaml").read_text())
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
    assert values["image"]["tag"] == values["gateway"]["image"]["tag"] == ""  # the appVersion
    wanted = {
        f"{image['repository']}:{version}"
        for image in (values["image"], values["gateway"]["image"])
    }
    assert {image.name for image in images_for_people("")} == wanted
    assert {image.name for image in images_for_people("registry.example.com/team/")} == {
        f"registry.example.com/team/{name}" for name in wanted
    }
