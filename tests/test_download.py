"""Downloading weights: from a server of our own, and everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import torch
from torchvision.models import optical_flow

from anonymotion.errors import WeightsError
from anonymotion.flow import load_flow
from anonymotion.flow.raft import PUBLISHED_WEIGHTS
from anonymotion.weights import download
from anonymotion.weights.download import fetch, hub_folder, offline_because

CONTENT = bytes(range(256)) * 5000  # more than one piece
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
NAME = f"network-{DIGITS}.pth"
ADVICE = "give the file with --here"


class Server:
    """Serves what is in `files`, and notes what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.promised: int | None = None  # a Content-Length that is not the true one
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(outer.promised or len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def url(self, name: str = NAME, content: bytes = CONTENT) -> str:
        self.files[f"/{name}"] = content
        return f"{self.root}/{name}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in download.OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server(online: None) -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def refused(url: str, folder: Path) -> str:
    """The message of a download that must fail, and leaves nothing behind."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(WeightsError) as caught:
        fetch(url, folder, ADVICE)
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    url, folder = server.url(), tmp_path / "deep" / "cache"
    path = fetch(url, folder, ADVICE)
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    assert list(folder.iterdir()) == [path]
    assert fetch(url, folder, ADVICE) == path
    assert server.asked == [f"/{NAME}"]


def test_others_may_read_what_is_in_a_shared_cache(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    path = fetch(server.url(), tmp_path, ADVICE)
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], b"<html>log in first</html>"], ids=["empty", "short", "page"])
def test_another_content_than_the_name_says_is_refused(server: Server, tmp_path: Path, content: bytes) -> None:
    message = refused(server.url(content=content), tmp_path)
    assert NAME in message
    assert message.endswith(ADVICE)


def test_a_connection_that_breaks_off_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.promised = len(CONTENT) + 10
    assert ADVICE in refused(server.url(content=CONTENT[:-100]), tmp_path)


def test_a_file_that_is_not_there(server: Server, tmp_path: Path) -> None:
    message = refused(f"{server.root}/{NAME}", tmp_path)
    assert "Not Found" in message
    assert f"get {server.root}/{NAME} on another machine and {ADVICE}" in message


def test_a_closed_port(online: None, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{NAME}"
        start = time.monotonic()
        assert "refused" in refused(url, tmp_path)
    assert time.monotonic() - start < 10


def test_a_host_that_never_answers_is_not_waited_for(
    online: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.monotonic()
        assert "timed out" in refused(f"http://127.0.0.1:{silent.getsockname()[1]}/{NAME}", tmp_path)
    assert time.monotonic() - start < 5


def test_an_encrypted_connection_is_not_left(online: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(io.BytesIO):
        url = f"http://elsewhere.example/{NAME}"

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Answer(CONTENT))
    assert "redirected to http" in refused(f"https://host.example/{NAME}", tmp_path)


def test_an_interrupt_leaves_no_partial_file(tmp_path: Path, online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(url: str, stream: BinaryIO, advice: str) -> None:
        stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(f"https://host.example/{NAME}", tmp_path, ADVICE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", download.OFFLINE_VARIABLES)
def test_offline_uses_the_cache_and_never_asks(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    url = server.url()
    monkeypatch.setenv(variable, "1")
    assert f"{variable}=1" in refused(url, tmp_path)
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(url, tmp_path, ADVICE).read_bytes() == CONTENT
    assert not server.asked


def test_which_values_mean_offline(online: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offline_because() is None
    for value, expected in (("", None), ("0", None), ("false", None), ("True", "True"), ("on", "on"), ("YES", "YES")):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        assert offline_because() == (expected and f"HF_HUB_OFFLINE={expected}")


def test_a_damaged_file_in_the_cache_is_neither_used_nor_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT[1:])
    message = refused(server.url(), tmp_path)
    assert str(tmp_path / NAME) in message
    assert "delete it" in message
    assert (tmp_path / NAME).read_bytes() == CONTENT[1:]
    assert not server.asked


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert ADVICE in refused(server.url(), tmp_path / "file" / "folder")


def test_a_name_without_a_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    assert "name-SHA256.pth" in refused(server.url("network.pth"), tmp_path)


# RAFT's weights


@pytest.mark.parametrize("name", PUBLISHED_WEIGHTS)
def test_the_published_weights_are_the_authors_own_and_carry_their_checksum(name: str) -> None:
    kind, version = PUBLISHED_WEIGHTS[name]
    weights = getattr(optical_flow, kind)[version]
    assert weights.url.startswith("https://")
    assert download._DIGEST_IN_NAME.search(weights.url)
    assert weights.meta["recipe"] == "https://github.com/princeton-vl/RAFT"
    assert "ported from the original paper" in " ".join(weights.meta["_docs"].split())


def published(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: dict[str, torch.Tensor]) -> str:
    """Make `state` what torchvision publishes for RAFT-small; the file's name."""
    stream = io.BytesIO()
    torch.save(state, stream)
    name = f"raft_small_test-{hashlib.sha256(stream.getvalue()).hexdigest()[:8]}.pth"
    weights = {PUBLISHED_WEIGHTS["raft-small"][1]: SimpleNamespace(url=server.url(name, stream.getvalue()))}
    monkeypatch.setattr(optical_flow, "Raft_Small_Weights", weights)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return name


def test_raft_without_a_file_is_downloaded_to_the_cache_of_torch_hub(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    state = optical_flow.raft_small(weights=None).state_dict()
    name = published(server, monkeypatch, tmp_path, state)
    raft: Any = load_flow("raft-small", cpu)
    loaded = raft._network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert (tmp_path / "torch" / "hub" / "checkpoints" / name).is_file()
    assert hub_folder() == tmp_path / "torch" / "hub" / "checkpoints"
    monkeypatch.setenv("ANONYMOTION_OFFLINE", "1")
    load_flow("raft-small", cpu)
    assert server.asked == [f"/{name}"]


def test_downloaded_weights_are_read_as_carefully_as_given_ones(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    published(server, monkeypatch, tmp_path, {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match="do not fit"):
        load_flow("raft-small", cpu)


def test_nothing_but_raft_without_a_file_asks_for_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu: torch.device
) -> None:
    def asked(*_: object) -> Path:
        raise AssertionError("a download was asked for")

    monkeypatch.setattr(download, "fetch", asked)
    torch.save(optical_flow.raft_small(weights=None).state_dict(), tmp_path / "w.pth")
    load_flow("dis", cpu)
    load_flow("raft-small", cpu, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_flow("raft-small", cpu, tmp_path / "mistyped.pth")
    with pytest.raises(AssertionError, match="asked for"):
        load_flow("raft-small", cpu)


@pytest.mark.parametrize("name", PUBLISHED_WEIGHTS)
def test_raft_without_a_network_says_how_to_get_on(
    name: str, cpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"on another machine.*--flow-weights.*--flow dis") as caught:
        load_flow(name, cpu)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
