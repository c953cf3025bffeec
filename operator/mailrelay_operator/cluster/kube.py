"""The only importer of the Kubernetes client: the port's Cluster over `kubernetes.aio`, one client
per process.

Translates the client's errors into those of port.py. Its discovery and models are not used: all
kinds are known (port.KINDS), and objects stay plain dictionaries. Every call has a deadline,
because the client has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import (  # type: ignore[attr-defined]  # typeshed lacks the second
    getproxies,
    proxy_bypass_environment,
)

import aiohttp
import orjson
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from mailrelay_operator.api.names import (
    FIELD_MANAGER,
    FIELD_MANAGER_CREATE,
    FIELD_MANAGER_PATCH,
    FIELD_MANAGER_STATUS,
)
from mailrelay_operator.cluster.port import (
    KINDS,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    Kind,
    NotFound,
    Unavailable,
    WatchEvent,
)
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of

#: Seconds for a whole call, and for its connection; the API server's own limit is 60 s.
CALL_DEADLINE = 15.0
CONNECT_DEADLINE = 5.0
#: Objects per page of a LIST, so that five thousand MailSenders of 40 KB each are never in memory
#: as one response.
PAGE = 250
#: Pages of one LIST: 100,000 objects, far more than a relay's configuration can hold.
MAX_PAGES = 400
#: Seconds after which the API server ends a watch, and seconds of silence (a bookmark arrives every
#: minute) after which it counts as dead, since a half-open connection never reports an error.
WATCH_SECONDS = 300
WATCH_SILENCE = 150.0
#: Octets of one event: etcd's limit is 1.5 MiB, and JSON is larger.
MAX_EVENT = 8 * 1024 * 1024
#: Concurrent requests: a watch per list, eight reads per relay worker, one per sender worker, and
#: the other loops; the API server's priority and fairness queues any excess.
CONNECTIONS = 64

_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_ERRORS: Mapping[int, type[ClusterError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    405: Invalid,
    409: Conflict,
    410: Expired,
    413: Invalid,
    415: Invalid,
    422: Invalid,
}


class Kube:
    """The API server, through `kubernetes.aio`. Created by `connect`; `close` at the end."""

    def __init__(self, client: ApiClient) -> None:
        """Use the process's one client."""
        self._client = client

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def served(self, api_version: str) -> frozenset[str]:
        """The plurals in discovery."""
        try:
            found = await self._call("GET", f"/apis/{api_version}", f"discovering {api_version}")
        except NotFound:
            return frozenset()
        return frozenset(str(one["name"]) for one in found.get("resources") or ())

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """The object; raises NotFound."""
        return await self._call("GET", _path(kind, namespace, name), f"reading {kind.name} {name}")

    async def version(self, kind: Kind, namespace: str, name: str) -> str:
        """The object's resourceVersion, without its contents."""
        found = await self._call(
            "GET",
            _path(kind, namespace, name),
            f"reading the version of {kind.name} {name}",
            # From the API server's cache, not from etcd: it may be slightly stale.
            query={"resourceVersion": "0"},
            accept=_METADATA_ONLY,
        )
        return str(found["metadata"]["resourceVersion"])

    async def list(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        labels: Mapping[str, str] | None = None,
        trim: Callable[[Manifest], Manifest] | None = None,
    ) -> tuple[tuple[Manifest, ...], str]:
        """The whole list, page by page, each object trimmed before the next page is asked for; if
        it expires meanwhile, that is an error, not a shorter list."""
        query = {"limit": str(PAGE), **_selecting(labels)}
        items: list[Manifest] = []
        own = {"apiVersion": kind.api_version, "kind": kind.name}  # a list's items lack them
        doing = f"listing {kind.plural} in {namespace or 'all namespaces'}"
        for _ in range(MAX_PAGES):
            page = await self._call("GET", _path(kind, namespace, None), doing, query=query)
            for item in page.get("items") or ():
                item["metadata"].pop("managedFields", None)  # half the size, and not needed
                found = own | item
                items.append(found if trim is None else trim(found))
            metadata = page.get("metadata") or {}
            following = metadata.get("continue")
            if not following:
                return tuple(items), str(metadata.get("resourceVersion", ""))
            query["continue"] = following
        raise Unavailable(doing, f"more than {PAGE * MAX_PAGES} objects")

    async def watch(
        self,
        kind: Kind,
        namespace: str | None,
        *,
        version: str,
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """A watch with bookmarks, line by line."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
            **_selecting(labels),
        }
        doing = f"watching {kind.plural} in {namespace or 'all namespaces'}"
        own = {"apiVersion": kind.api_version, "kind": kind.name}
        try:
            async with asyncio.timeout(CALL_DEADLINE):
                request = await self._client.param_serialize(
                    "GET",
                    f"{_path(kind, namespace, None)}?{urlencode(query)}",
                    header_params={"Accept": "application/json"},
                    auth_settings=["BearerToken"],
                )
                response = await self._client.call_api(
                    *request,
                    _request_timeout=aiohttp.ClientTimeout(
                        total=None, connect=CONNECT_DEADLINE, sock_read=WATCH_SILENCE
                    ),
                )
        except TimeoutError:
            raise Unavailable(doing, f"no answer within {CALL_DEADLINE:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(doing, f"the API server cannot be reached: {error}") from error
        stream = response.response
        try:
            if stream.status != 200:
                _answer(stream.status, await stream.content.read(MAX_EVENT), doing)
                raise Unavailable(doing, f"HTTP {stream.status}")
            async for line in _lines(stream.content, doing):
                yield _event(line, own, doing)
        except TimeoutError:
            raise Unavailable(doing, f"no event for {WATCH_SILENCE:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(doing, f"the connection broke: {error}") from error
        finally:
            stream.close()

    async def create(self, manifest: Manifest) -> Manifest:
        """POST; raises Conflict if an object of that name exists."""
        kind = KINDS[manifest["kind"]]
        return await self._call(
            "POST",
            _path(kind, namespace_of(manifest), None),
            f"creating {kind.name} {manifest['metadata'].get('name') or 'with a generated name'}",
            query={"fieldManager": FIELD_MANAGER_CREATE},
            body=manifest,
        )

    async def apply(self, manifest: Manifest, *, force: bool = True) -> Manifest:
        """Server-side apply."""
        return await self._apply(manifest, "", force=force)

    async def apply_status(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the status subresource, forced."""
        return await self._apply(manifest, "/status", force=True)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch."""
        return await self._call(
            "PATCH",
            _path(kind, namespace, name),
            f"patching {kind.name} {name}",
            query={"fieldManager": FIELD_MANAGER_PATCH},
            body=patch,
            content_type=_MERGE,
        )

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, orphan: bool = False
    ) -> None:
        """Delete exactly this object; its absence is not an error."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Orphan" if orphan else "Background",
        }
        try:
            await self._call(
                "DELETE", _path(kind, namespace, name), f"deleting {kind.name} {name}", body=options
            )
        except NotFound:
            return

    async def _apply(self, manifest: Manifest, subresource: str, *, force: bool) -> Manifest:
        kind = KINDS[manifest["kind"]]
        return await self._call(
            "PATCH",
            _path(kind, namespace_of(manifest), name_of(manifest)) + subresource,
            f"applying {kind.name} {name_of(manifest)}{subresource}",
            query={
                "fieldManager": FIELD_MANAGER_STATUS if subresource else FIELD_MANAGER,
                "force": "true" if force else "false",
            },
            body=manifest,
            content_type=_APPLY,
        )

    async def _call(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        try:
            async with asyncio.timeout(CALL_DEADLINE):
                request = await self._client.param_serialize(
                    method,
                    f"{path}?{urlencode(query)}" if query else path,
                    header_params={"Accept": accept, "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                )
                response = await self._client.call_api(
                    *request,
                    _request_timeout=aiohttp.ClientTimeout(
                        total=CALL_DEADLINE, connect=CONNECT_DEADLINE
                    ),
                )
                octets: bytes = await response.read()  # type: ignore[no-untyped-call]
        except TimeoutError:
            raise Unavailable(
                doing, f"the API server did not answer within {CALL_DEADLINE:g} s"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(doing, f"the API server cannot be reached: {error}") from error
        return _answer(response.status, octets, doing)


def _answer(status: int, octets: bytes, doing: str) -> Manifest:
    """The object in the API server's answer; raises its error."""
    try:
        answer: Any = orjson.loads(octets) if octets else {}
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if 200 <= status <= 299:
        return dict(answer)
    detail = str(answer.get("message") or octets[:200].decode(errors="replace") or f"HTTP {status}")
    if status == 422 and "uid mismatch" in detail.lower():
        raise Conflict(doing, detail)
    known = _ERRORS.get(status)
    if known is not None:
        raise known(doing, detail)
    # 500 is also how a webhook's failure appears; 429 and the others concern the API server itself.
    raise Unavailable(doing, detail, answered=status == 500)


def _selecting(labels: Mapping[str, str] | None) -> dict[str, str]:
    if not labels:
        return {}
    return {"labelSelector": ",".join(f"{key}={labels[key]}" for key in sorted(labels))}


async def _lines(stream: aiohttp.StreamReader, doing: str) -> AsyncIterator[bytes]:
    """Lines of any length up to MAX_EVENT: aiohttp's own reader refuses those over 64 KiB."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        rest += chunk
        *whole, last = rest.split(b"\n") if b"\n" in chunk else (rest,)
        for line in whole:
            if line.strip():
                yield bytes(line)
        rest = bytearray(last)
        if len(rest) > MAX_EVENT:
            raise Unavailable(doing, f"an event of over {MAX_EVENT} octets")


def _event(line: bytes, own: Mapping[str, str], doing: str) -> WatchEvent:
    try:
        event: Any = orjson.loads(line)
        found, type_ = dict(event["object"]), str(event["type"])
        if type_ == "ERROR":
            detail = str(found.get("message") or found.get("reason") or "an error")
            if found.get("code") == 410:
                raise Expired(doing, detail)
            raise Unavailable(doing, detail)
        metadata = found["metadata"]
        version = str(metadata["resourceVersion"])
        if type_ == "BOOKMARK":
            return WatchEvent(version=version)
        metadata.pop("managedFields", None)
        return WatchEvent(version=version, found={**found, **own}, gone=type_ == "DELETED")
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(doing, f"not an event: {error!r}") from error


def _path(kind: Kind, namespace: str | None, name: str | None) -> str:
    parts = ["/api" if "/" not in kind.api_version else "/apis", kind.api_version]
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts.append(kind.plural)
    if name:
        parts.append(name)
    return "/".join(parts)


async def connect(*, kubeconfig: str | None = None, context: str | None = None) -> Kube:
    """Connect with this pod's service account or, outside a pod or if one is given, with a
    kubeconfig."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    configuration.retries = None  # the backlog has a back-off per key
    if kubeconfig is None and _in_pod():
        kube_config.load_incluster_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration
        )
    else:
        await kube_config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=kubeconfig, context=context, client_configuration=configuration
        )
    # Once, instead of aiohttp's look at the environment and for a ~/.netrc at every request, which
    # takes longer than the rest of it.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.proxy = configuration.proxy or proxy_for(configuration.host, getproxies())
    client = ApiClient(configuration)
    client.user_agent = "mailrelay-operator"
    return Kube(client)


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """The proxy for this URL, of those that the environment names by scheme (HTTPS_PROXY), unless
    its host is among those under `no` (NO_PROXY)."""
    parts = urlsplit(url)
    if proxy_bypass_environment(parts.hostname or "", dict(proxies)):
        return None
    return proxies.get(parts.scheme)


def _in_pod() -> bool:
    return Path("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file()
