"""What the test cluster decides without starting anything: addresses, volumes, folders, options."""

from pathlib import Path

import pytest
from testcluster import machine, network, storage
from testcluster.binaries import KUBERNETES, Component
from testcluster.layout import Layout
from testcluster.report import ClusterError


def test_pip_takes_the_way_to_the_index_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text(
        "[global]\nindex-url = https://file.invalid/simple\nuser = yes\n"
    )
    environment = {
        "HOME": str(tmp_path),
        "PIP_PROXY": "http://proxy.invalid",
        "PIP_FIND_LINKS": "/x",
    }
    text = machine.pip_options(environment)
    assert "index-url = https://file.invalid/simple" in text
    assert "proxy = http://proxy.invalid" in text
    assert "user" not in text
    assert "find-links" not in text


def test_pip_s_variables_win_over_its_files(tmp_path: Path) -> None:
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text("[global]\nindex-url = https://file.invalid/simple\n")
    environment = {"HOME": str(tmp_path), "PIP_INDEX_URL": "https://other.invalid"}
    assert "index-url = https://other.invalid" in machine.pip_options(environment)


def test_a_volume_is_bound_to_its_claim_and_its_node() -> None:
    claim = {
        "metadata": {"name": "data", "namespace": "mail", "uid": "1-2"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    volume = storage.volume_for(claim, "node2")
    assert volume["metadata"]["name"] == "pvc-1-2"
    assert volume["spec"]["claimRef"]["uid"] == "1-2"
    assert "node2" in str(volume["spec"]["nodeAffinity"])


def test_the_cache_may_not_be_where_nodes_have_their_own_folders() -> None:
    with pytest.raises(ClusterError, match="/var/lib"):
        Layout.from_environment({"MAILRELAY_CLUSTER_CACHE": "/var/lib/x"})


def test_what_is_built_is_told_by_its_digest() -> None:
    other = Component(KUBERNETES.name, KUBERNETES.programs, link_flags="-X another")
    assert KUBERNETES.digest() != other.digest()


def test_every_node_has_its_own_addresses() -> None:
    numbers = range(1, network.MAX_NODES + 1)
    assert len({network.node_address(n) for n in numbers}) == network.MAX_NODES
    assert len({network.pod_range(n) for n in numbers}) == network.MAX_NODES


def test_a_node_routes_to_the_others_and_not_to_itself() -> None:
    script = network.enter_script(1, "node1", Path("/x"), Path("/y"))
    assert f"ip route replace {network.pod_range(1)}" not in script
    assert f"ip route replace {network.pod_range(2)}" in script
