"""The door: who may ask, and what every answer carries.

Every address begins with a random token, so that nobody who has not been told it can ask for anything: no cookie is
needed that another page could make the browser send.  Besides, a request must name this server as its Host (a foreign
name that resolves to this machine does not pass), and where a browser says which page it comes from, it must be ours.
There are no CORS headers, so a browser shows our answers to nobody else.

Not here: how long an upload may be (clips), where files may lie (clips).
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LARGEST_BODY = 1 << 20
"""Bytes of a request that is no upload."""

UPLOAD = ("POST", "/api/videos")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the address holds the token
    "cache-control": "no-store",  # frames are private: no copy of them on the disk
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
ELSEWHERE = "This is not an address of this studio: open the one that `anonymotion studio` printed, with its token."


def is_loopback(address: str) -> bool:
    """Whether `address`, a name or an IP address, is this machine and nobody else can reach it."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


@dataclass(frozen=True)
class Hosts:
    """The Host headers that are ours: those of `address` and `port`.

    address: what the server listens on; for all addresses (0.0.0.0, ::) any IP address counts, because a page that
    was tricked into our address comes under a name.
    """

    address: str
    port: int

    def __contains__(self, header: str) -> bool:
        name, port = _split(header)
        if port != self.port:
            return False
        if name == self.address or (is_loopback(self.address) and name in ("localhost", "127.0.0.1", "::1")):
            return True
        return self._everywhere and (name == "localhost" or _is_ip(name))

    @property
    def _everywhere(self) -> bool:
        return _is_ip(self.address) and ipaddress.ip_address(self.address).is_unspecified


def _split(header: str) -> tuple[str, int]:
    """(name, port) of a Host header; port -1 if there is none that can be read, 80 if it is left out."""
    name, separator, port = header.strip().lower().rpartition(":")
    if not separator or port.endswith("]"):
        return header.strip().lower().strip("[]"), 80
    return name.strip("[]"), int(port) if port.isascii() and port.isdigit() else -1


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Door:
    """An ASGI application in front of another one, which sees only requests that may pass.

    hosts: what a Host header may say.  token: the first part of every path.
    """

    def __init__(self, app: App, hosts: Hosts, token: str) -> None:
        self._app, self._hosts, self._token = app, hosts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the token taken from the path."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["path"] == f"/{self._token}":
            await _redirect(send, f"/{self._token}/")
            return
        if refusal is not None:
            await _answer(send, *refusal)
            return
        await self._app({**scope, "root_path": f"/{self._token}"}, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence for a request that may not pass."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return 403, ELSEWHERE
        for origin in headers.get("origin", []):
            scheme, _, host = origin.partition("://")
            if scheme != "http" or host not in self._hosts or _split(host) != _split(hosts[0]):
                return 403, "another page asked for this: only the studio's own may"
        from_elsewhere = set(headers.get("sec-fetch-site", [])) & {"cross-site", "same-site"}
        if from_elsewhere and headers.get("sec-fetch-mode") != ["navigate"]:
            return 403, "another page asked for this: only the studio's own may"
        first, _, rest = scope["path"].removeprefix("/").partition("/")
        if not hmac.compare_digest(first.encode(), self._token.encode()):
            return 403, ELSEWHERE
        if (scope["method"], f"/{rest}") != UPLOAD:
            return _body_refusal(headers)
        return None


def _body_refusal(headers: dict[str, list[str]]) -> tuple[int, str] | None:
    if "transfer-encoding" in headers:
        return 411, "a request without its length: send Content-Length"
    if any(not length.isdigit() or int(length) > LARGEST_BODY for length in headers.get("content-length", [])):
        return 413, f"a request of more than {LARGEST_BODY} bytes: only videos may be larger"
    return None


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            # a page of the report brings a stricter policy of its own
            known = {name.lower() for name, _ in message.get("headers", [])}
            message["headers"] = [*message.get("headers", []), *(item for item in ours if item[0] not in known)]
        await send(message)

    return sending


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    guarded = _with_headers(send)
    # the rest of a refused upload is not read
    await guarded({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await guarded({"type": "http.response.body", "body": body})


async def _redirect(send: Send, place: str) -> None:
    guarded = _with_headers(send)
    headers = [(b"location", place.encode()), (b"content-length", b"0")]
    await guarded({"type": "http.response.start", "status": 307, "headers": headers})
    await guarded({"type": "http.response.body", "body": b""})
