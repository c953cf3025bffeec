"""A small client of the API server, for what is asked often (kubectl takes too long to start)."""

import http.client
import json
import ssl
import urllib.parse
from typing import Any

from .pki import Authority
from .report import ClusterError

Object = dict[str, Any]  # of Kubernetes, as JSON


class Api:
    """Talks to the API server as its administrator; its one connection is reopened on a break."""

    def __init__(self, server: str, authority: Authority, name: str = "admin"):
        self._address = urllib.parse.urlsplit(server)
        self._tls = ssl.create_default_context(cafile=str(authority.certificate))
        self._tls.load_cert_chain(authority.crt(name), authority.key(name))
        self._connection: http.client.HTTPSConnection | None = None

    def request(self, method: str, path: str, body: Object | None = None) -> tuple[int, Object]:
        """Send one request; the answer is (status, decoded body)."""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        payload = json.dumps(body) if body is not None else None
        fresh = self._connection is None
        while True:
            if self._connection is None:
                self._connection = http.client.HTTPSConnection(
                    self._address.hostname or "", self._address.port, context=self._tls, timeout=10
                )
            try:
                self._connection.request(method, path, payload, {"Content-Type": content})
                answer = self._connection.getresponse()
                raw = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self._connection.close()
                self._connection = None
                if fresh:
                    raise
                fresh = True  # a kept connection may have gone stale; try once more with a new one
        try:
            return answer.status, json.loads(raw or b"{}")
        except ValueError:
            return answer.status, {"message": raw.decode(errors="replace")}

    def get(self, path: str) -> Object | None:
        """The object or list at `path`; None when there is none."""
        status, body = self.request("GET", path)
        if status == 404:
            return None
        return self._accept("GET", path, status, body)

    def create(self, path: str, body: Object) -> Object | None:
        """Create an object; None when it exists already."""
        status, answer = self.request("POST", path, body)
        if status == 409:
            return None
        return self._accept("POST", path, status, answer)

    def delete(self, path: str) -> None:
        status, answer = self.request("DELETE", path)
        if status != 404:
            self._accept("DELETE", path, status, answer)

    def ready(self) -> bool:
        try:
            return self.request("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    @staticmethod
    def _accept(method: str, path: str, status: int, body: Object) -> Object:
        if status >= 400:
            raise ClusterError(
                f"The API server refused {method} {path}: {body.get('message', status)}"
            )
        return body
