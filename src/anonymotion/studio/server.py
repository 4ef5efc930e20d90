"""Serving a studio: an address with a token, uvicorn behind the door, and an end that leaves nothing.

Not here: who may pass (security), what is printed (cli).
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anonymotion.errors import MissingDependencyError, SettingsError
from anonymotion.studio.session import Options

LOOPBACK = "127.0.0.1"
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


def serve(options: Options, *, host: str = LOOPBACK, port: int = 0, opened: Callable[[str, Path], None]) -> None:
    """Serve a studio until it is interrupted.

    host, port: to listen on; port 0 is any free one.  opened: told the URL once requests are answered, and a private
    file that leads there.  Raises MissingDependencyError without the extra `studio`, SettingsError if the address
    cannot be used, and what `Session` raises.
    """
    try:
        import uvicorn

        from anonymotion.studio.app import build_app
    except ImportError as error:
        raise MissingDependencyError(
            f"the studio needs a package that is not installed ({error.name}): pip install 'anonymotion[studio]'"
        ) from error
    from anonymotion.studio.security import Door, Hosts
    from anonymotion.studio.workbench import Workbench

    # no request leaves the machine, whatever a policy names; runs inherit this
    os.environ["ANONYMOTION_OFFLINE"] = "1"
    listening = _listen(host, port)
    token = secrets.token_urlsafe(32)
    number = listening.getsockname()[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{number}/{token}/"
    with listening, Workbench(options) as bench:
        door = Door(build_app(bench), Hosts(host.lower(), number), token)

        class Server(uvicorn.Server):
            """Tells when it answers, and takes an interrupt as its usual end."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                opened(url, _leading_to(url, bench.session.folder))

            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
                before = {number: signal.signal(number, self.handle_exit) for number in numbers}
                try:
                    yield
                finally:
                    for number, handler in before.items():
                        signal.signal(number, handler)

        config = uvicorn.Config(
            door,
            log_level="error",
            access_log=False,  # addresses hold the token
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        Server(config).run(sockets=[listening])


def _leading_to(url: str, folder: Path) -> Path:
    """A page that only its owner can read: a command line with the token in it would be seen by all users."""
    path = folder / "open.html"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}">')
    return path


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address.  Raises SettingsError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{host} port {port} cannot be listened on ({reason}): choose another --port") from error
    return sock
