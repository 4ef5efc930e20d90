"""What the tests of the studio share: a studio, and a client that knows its token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from anonymotion.studio.app import build_app
from anonymotion.studio.security import Door, Hosts
from anonymotion.studio.session import Options
from anonymotion.studio.workbench import Workbench

TOKEN = "the-token-of-this-test"  # noqa: S105 - it opens nothing
HOST = "127.0.0.1:8765"


@contextmanager
def opened(root: Path | None, **options: Any) -> Iterator[tuple[TestClient, Workbench]]:
    """A studio on `root`; the client's addresses are relative to the token."""
    with Workbench(Options(root=root, device="cpu", **options)) as bench:
        door = Door(build_app(bench), Hosts("127.0.0.1", 8765), TOKEN)
        yield TestClient(door, base_url=f"http://{HOST}/{TOKEN}", raise_server_exceptions=False), bench
