"""Weights from the Hugging Face hub, fetched when somebody asks for a network that is not in the package.

Files stay in the hub's own cache folder and are found there without a connection (`ANONYMOTION_OFFLINE=1` forbids any).

Not here: reading what was fetched (the package's `load_weights`), which repository a network has (registry).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anonymotion.errors import WeightsError
from anonymotion.weights.download import offline_because

FILE_NAME = "model.safetensors"


def fetch_from_hub(repository: str, name: str) -> Path:
    """Path of the weights of `repository`, downloaded unless they are in the cache.

    Only safetensors files are fetched.  Raises WeightsError, which says what to do without a connection.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, FILE_NAME)
    if isinstance(cached, str):  # not even a look at whether there is a newer one
        return Path(cached)
    advice = (
        f"get {FILE_NAME} of {repository} on another machine and name it with --backbone-weights, or use the default "
        "backbone, whose weights are in the package"
    )
    forbidden = offline_because()
    if forbidden:
        raise WeightsError(
            f"the weights of {name} are not in the hub's cache, and {forbidden} forbids the network: {advice}"
        )
    try:
        with _quiet_retries():
            return Path(hf_hub_download(repository, FILE_NAME, etag_timeout=10))
    except Exception as error:  # its transport's errors have no common base; each means: not fetched
        reason = " ".join(str(error).split()).split(". ")[0][:160]
        raise WeightsError(
            f"the weights of {name} could not be fetched from the Hugging Face hub ({reason}): {advice}"
        ) from error


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """The hub warns of every attempt; here one sentence comes at the end."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
