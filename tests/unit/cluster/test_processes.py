"""Programs of the test cluster: started once, told apart from others, stopped."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from testcluster import processes
from testcluster.report import ClusterError


@pytest.fixture
def started(tmp_path: Path) -> Iterator[processes.Processes]:
    made = processes.Processes(tmp_path / "records", tmp_path / "log")
    yield made
    for name in made.names():
        made.stop(name)


def test_starts_once_and_stops(started: processes.Processes) -> None:
    pid = started.start("sleep", ["sleep", "60"])
    assert started.start("sleep", ["sleep", "60"]) == pid
    assert started.stop("sleep")
    assert not started.stop("sleep")
    assert started.names() == []


@pytest.mark.parametrize("change", [{"boot": "another"}, {"started": -1}])
def test_a_record_of_another_boot_or_process_is_not_ours(change: dict[str, object]) -> None:
    ours = processes.Record.of(os.getpid())
    assert ours is not None
    assert ours.alive()
    assert not processes.Record(**{**asdict(ours), **change}).alive()


def test_a_damaged_record_names_no_process(started: processes.Processes, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "etcd.json").write_text("{")
    assert started.pid("etcd") is None
    assert not started.stop("etcd")


def test_a_process_that_has_ended_has_no_record() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert processes.Record.of(child.pid) is None


def test_what_ended_is_reported_with_its_last_words(
    started: processes.Processes, tmp_path: Path
) -> None:
    leave = tmp_path / "leave"
    script = f"echo last words; until [ -e {leave} ]; do sleep 0.01; done"
    started.start("sh", ["sh", "-c", script])
    leave.touch()
    processes.wait_until(lambda: started.pid("sh") is None, "the end", 5)
    with pytest.raises(ClusterError, match="last words"):
        started.require("sh")


def test_a_failing_program_is_one_sentence_and_its_output() -> None:
    with pytest.raises(ClusterError, match=r"(?s)Trying failed \(sh ended with 3\)\..*why"):
        processes.run(["sh", "-c", "echo why >&2; exit 3"], "Trying")
