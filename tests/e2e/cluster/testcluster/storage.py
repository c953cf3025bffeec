"""Volumes: each waiting PersistentVolumeClaim gets a folder on the node that its pod goes to.

They are `local` volumes rather than `hostPath` ones, because the kubelet applies fsGroup to the
former only.
"""

import json
import shutil
import sys
import time
from pathlib import Path

from . import network
from .api import Api, Object
from .layout import SOURCE, Layout
from .pki import Authority
from .processes import Processes

NAME = "provisioner"
CLASS = "local"
PROVISIONER = "testcluster.mailrelay.dev/local"
IN_NODE = "/var/lib/volumes"  # where a node sees its volumes
PERIOD = 0.5

_VOLUMES = "/api/v1/persistentvolumes"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


def storage_class() -> str:
    """The default StorageClass, as a manifest."""
    return json.dumps(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": CLASS,
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": PROVISIONER,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    )


def start(processes: Processes, layout: Layout) -> None:
    environment = {
        "PYTHONPATH": str(SOURCE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MAILRELAY_CLUSTER_CACHE": str(layout.cache),
    }
    processes.start(NAME, [sys.executable, "-m", __name__], environment)


class Provisioner:
    def __init__(self, api: Api, nodes: Path):
        self._api = api
        self._nodes = nodes

    def once(self) -> None:
        """Serve what waits now: make volumes for claims, remove those that were released."""
        ours = {
            c["metadata"]["name"] for c in self._list(_CLASSES) if c["provisioner"] == PROVISIONER
        }
        volumes = [v for v in self._list(_VOLUMES) if v["spec"].get("storageClassName") in ours]
        existing = {volume["metadata"]["name"] for volume in volumes}
        for claim in self._list(_CLAIMS):
            node = (
                claim["metadata"].get("annotations", {}).get("volume.kubernetes.io/selected-node")
            )
            waits = (
                claim["status"].get("phase") == "Pending"
                and claim["spec"].get("storageClassName") in ours
            )
            if node and waits and volume_name(claim) not in existing:
                self._provision(claim, node)
        for volume in volumes:
            released = volume["status"].get("phase") in ("Released", "Failed")
            kept = volume["spec"]["persistentVolumeReclaimPolicy"] != "Delete"
            if released and not kept and "deletionTimestamp" not in volume["metadata"]:
                self._remove(volume)

    def _list(self, path: str) -> list[Object]:
        return (self._api.get(path) or {}).get("items") or []

    def _folder(self, node: str, name: str) -> Path:
        return self._nodes / node / "lib" / "volumes" / name

    def _provision(self, claim: Object, node: str) -> None:
        name = volume_name(claim)
        folder = self._folder(node, name)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # as other provisioners do, for pods that set no fsGroup
        self._api.create(_VOLUMES, volume_for(claim, node))
        print(
            time.strftime("%T"),
            "made",
            name,
            "for",
            claim["metadata"]["namespace"],
            claim["metadata"]["name"],
            "on",
            node,
            flush=True,
        )

    def _remove(self, volume: Object) -> None:
        name = volume["metadata"]["name"]
        terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        shutil.rmtree(
            self._folder(terms[0]["matchExpressions"][0]["values"][0], name), ignore_errors=True
        )
        self._api.delete(f"{_VOLUMES}/{name}")
        print(time.strftime("%T"), "removed", name, flush=True)


def volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def volume_for(claim: Object, node: str) -> Object:
    """The PersistentVolume for a claim, bound to the node."""
    spec, meta = claim["spec"], claim["metadata"]
    on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(claim),
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
            "local": {"path": f"{IN_NODE}/{volume_name(claim)}"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
        },
    }


def main() -> None:
    layout = Layout.from_environment()
    provisioner = Provisioner(Api(network.API_SERVER, Authority(layout.pki)), layout.nodes)
    while True:
        try:
            provisioner.once()
        except Exception as error:  # whatever it is, the next round may do better
            print(time.strftime("%T"), "error:", repr(error), flush=True)
        time.sleep(PERIOD)


if __name__ == "__main__":
    main()
