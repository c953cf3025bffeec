"""etcd, the API server, the controller manager and the scheduler: processes of this machine."""

import ssl
import urllib.request
from pathlib import Path

from . import network
from .api import Api
from .binaries import Binaries
from .layout import Layout
from .pki import Authority, signing_key
from .processes import Processes, wait_until

# Not the usual 2379, which something else on this machine may use. No pod can reach it.
ETCD_CLIENT = "http://127.0.0.1:23790"
ETCD_PEER = "http://127.0.0.1:23800"
NAMES = ("scheduler", "controller-manager", "apiserver", "etcd")  # in the order of stopping


class ControlPlane:
    def __init__(self, layout: Layout, binaries: Binaries, processes: Processes):
        self._layout = layout
        self._binaries = binaries
        self._processes = processes
        self.authority = Authority(layout.pki)
        self._front_proxy = Authority(layout.pki, "front-proxy-ca")

    def create_certificates(self) -> None:
        authority = self.authority
        authority.create()
        self._front_proxy.create()
        signing_key(self._layout.pki)
        service = "kubernetes.default.svc"
        cluster_names = ("kubernetes", "kubernetes.default", service, f"{service}.cluster.local")
        addresses = ("127.0.0.1", network.HOST, network.FIRST_SERVICE)
        names = [f"DNS:{name}" for name in ("localhost", *cluster_names)] + [
            f"IP:{address}" for address in addresses
        ]
        authority.issue("apiserver", "/CN=kube-apiserver", "serverAuth", ",".join(names))
        authority.issue("apiserver-to-kubelet", "/O=system:masters/CN=apiserver-to-kubelet")
        authority.issue("admin", "/O=system:masters/CN=admin")
        authority.issue("controller-manager", "/CN=system:kube-controller-manager")
        authority.issue("scheduler", "/CN=system:kube-scheduler")
        authority.issue("proxy", "/CN=system:kube-proxy")
        self._front_proxy.issue("front-proxy-client", "/CN=front-proxy-client")
        authority.kubeconfig(self._layout.kubeconfig, "admin", network.API_SERVER)
        for name in ("controller-manager", "scheduler", "proxy"):
            authority.kubeconfig(self._kubeconfig(name), name, network.API_SERVER)

    def api(self) -> Api:
        return Api(network.API_SERVER, self.authority)

    def start_storage_and_api(self) -> None:
        self._processes.start(
            "etcd",
            [
                self._binaries.path("etcd"),
                f"--data-dir={self._layout.etcd}",
                f"--listen-client-urls={ETCD_CLIENT}",
                f"--advertise-client-urls={ETCD_CLIENT}",
                f"--listen-peer-urls={ETCD_PEER}",
                f"--initial-advertise-peer-urls={ETCD_PEER}",
                f"--initial-cluster=default={ETCD_PEER}",
                "--unsafe-no-fsync",  # a test bed may lose its last writes when the machine crashes
            ],
        )
        self._processes.start(
            "apiserver", [self._binaries.path("kube-apiserver"), *self._api_server_flags()]
        )

    def start_controllers(self) -> None:
        """Once the API answers: what starts earlier waits, and tries again later than needed."""
        private, _ = signing_key(self._layout.pki)
        authority = self.authority
        self._processes.start(
            "controller-manager",
            [
                self._binaries.path("kube-controller-manager"),
                *self._login_flags("controller-manager"),
                f"--service-account-private-key-file={private}",
                f"--root-ca-file={authority.certificate}",
                f"--client-ca-file={authority.certificate}",
                f"--requestheader-client-ca-file={self._front_proxy.certificate}",
                f"--cluster-signing-cert-file={authority.certificate}",
                f"--cluster-signing-key-file={authority.private_key}",
                "--use-service-account-credentials=true",
                # The default of 20 requests a second makes a fresh cluster slow to settle.
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
                # A lost node is noticed in 20 seconds (kubelets report every 5), instead of 50.
                "--node-monitor-grace-period=20s",
                "--node-monitor-period=2s",
                "--horizontal-pod-autoscaler-sync-period=5s",
            ],
        )
        self._processes.start(
            "scheduler", [self._binaries.path("kube-scheduler"), *self._login_flags("scheduler")]
        )

    def wait_for_api(self, api: Api) -> None:
        def answers() -> bool:
            for name in ("etcd", "apiserver"):
                self._processes.require(name)
            return api.ready()

        wait_until(answers, "The API server's readiness", 120, self._processes.log("apiserver"))

    def wait_for_controllers(self, api: Api) -> None:
        def healthy() -> bool:
            for name in ("controller-manager", "scheduler"):
                self._processes.require(name)
            return all(_answers(f"https://127.0.0.1:{port}/healthz") for port in (10257, 10259))

        wait_until(healthy, "The health of controller manager and scheduler", 60)
        wait_until(
            lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None,
            "The default ServiceAccount",
            60,
            self._processes.log("controller-manager"),
        )

    def _kubeconfig(self, name: str) -> Path:
        return self._layout.pki / f"{name}.kubeconfig"

    def _login_flags(self, name: str) -> list[str]:
        kubeconfig = self._kubeconfig(name)
        return [
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self._layout.run / 'self-signed' / name}",
            "--leader-elect=false",
        ]

    def _api_server_flags(self) -> list[str]:
        authority, front_proxy = self.authority, self._front_proxy
        private, public = signing_key(self._layout.pki)
        return [
            f"--etcd-servers={ETCD_CLIENT}",
            f"--bind-address={network.HOST}",
            f"--advertise-address={network.HOST}",
            "--secure-port=6443",
            f"--service-cluster-ip-range={network.SERVICE_RANGE}",
            f"--tls-cert-file={authority.crt('apiserver')}",
            f"--tls-private-key-file={authority.key('apiserver')}",
            f"--client-ca-file={authority.certificate}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--kubelet-client-certificate={authority.crt('apiserver-to-kubelet')}",
            f"--kubelet-client-key={authority.key('apiserver-to-kubelet')}",
            f"--kubelet-certificate-authority={authority.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
            f"--requestheader-client-ca-file={front_proxy.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={front_proxy.crt('front-proxy-client')}",
            f"--proxy-client-key-file={front_proxy.key('front-proxy-client')}",
            # Webhooks are called at their pods' addresses, so that they do not hang on one node's
            # kube-proxy.
            "--enable-aggregator-routing=true",
        ]


def _answers(url: str) -> bool:
    # The certificate is one the component made for itself; only liveness is asked for here.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
