"""Get a published weight file once; with `hub`, the only module that reads from the network.

Nothing calls it unless a network was asked for whose weights are neither in the package nor given as a file.  What is
in the cache already is used without asking anybody, and with `ANONYMOTION_OFFLINE=1` or `HF_HUB_OFFLINE=1` nothing but
the cache is used.

Not here: which file belongs to which network (flow, backbone), reading it (weights), any use of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlparse

from anonymotion.errors import WeightsError

OFFLINE_VARIABLES = ("ANONYMOTION_OFFLINE", "HF_HUB_OFFLINE")
TIMEOUT_SECONDS = 15  # for connecting, and for each silence while reading

# The convention of torch hub: name-<first digits of the SHA-256>.pth
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")
_PIECE_BYTES = 1 << 20


def offline_because() -> str | None:
    """`NAME=VALUE` of the environment variable that forbids the network, or None."""
    for name in OFFLINE_VARIABLES:
        value = os.environ.get(name, "")
        if value.strip().lower() in ("1", "on", "yes", "true"):
            return f"{name}={value}"
    return None


def hub_folder() -> Path:
    """Where torch hub keeps checkpoints: `$TORCH_HOME/hub/checkpoints`, by default below `~/.cache/torch`."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints"


def fetch(url: str, folder: Path, instead: str) -> Path:
    """The file at `url`, from `folder` if it is there already, else downloaded to it.

    The last part of the URL is the file's name and ends in the first digits of its SHA-256 (torch hub's convention);
    they are checked before the file appears under that name, and again whenever it is found there.  `instead` ends
    the messages: what to do with the file once it was got on another machine, or without it.

    Raises WeightsError if the file is not in `folder` and cannot be had: offline, host unreachable, another content.
    """
    name = Path(urlparse(url).path).name
    found = _DIGEST_IN_NAME.search(name)
    if found is None:
        raise WeightsError(f"{url} has no checksum in its name: expected name-SHA256.pth")
    advice = f"get {url} on another machine and {instead}"
    path = folder / name
    if path.exists():
        if not _digest(path).startswith(found[1]):
            raise WeightsError(f"{path} is damaged: its SHA-256 is not that of its name; delete it and run again")
        return path
    forbidden = offline_because()
    if forbidden:
        raise WeightsError(f"{name} is not in {folder}, and {forbidden} forbids the network: {advice}")
    # Not tempfile: the cache may be shared with others, who could not read a file of mode 0600.
    partial = folder / f".{name}.{uuid.uuid4().hex}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = partial.open("xb")
    except OSError as error:
        raise WeightsError(f"{name} cannot be written to {folder} ({error.strerror}): {advice}") from error
    try:
        with stream:
            _download(url, stream, advice)
        digest = _digest(partial)
        if not digest.startswith(found[1]):
            raise WeightsError(f"what came is not {name} (its SHA-256 is {digest[:12]}...): {advice}")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read ({error.strerror}): check the path") from error


def _download(url: str, stream: BinaryIO, advice: str) -> None:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        request = Request(url, headers={"User-Agent": "anonymotion"})  # noqa: S310 - the callers' URLs are constants
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            if urlparse(answer.url).scheme != urlparse(url).scheme:
                # the digits in the name find damage; it is the encrypted connection that finds forgery
                raise ValueError(f"redirected to {urlparse(answer.url).scheme}")
            while piece := answer.read(_PIECE_BYTES):
                stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the answer itself, and holds the connection
        reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())[:120]
        raise WeightsError(f"{Path(urlparse(url).path).name} could not be downloaded ({reason}): {advice}") from error
