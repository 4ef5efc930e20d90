"""A run, in a process of its own: so that it can be stopped, and the page stays quick.

The parent is told of progress and of the end through a pipe; if the parent is gone the run ends as if it was stopped,
and leaves nothing.

Not here: the queue (jobs), what a run does (run).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from anonymotion.errors import AnonymotionError
from anonymotion.policy import Policy
from anonymotion.results import Progress

STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Order:
    """Everything that a run needs to know.

    library: the folder of the session's templates.  features: that of descriptors, with at most `cache_limit` bytes.
    """

    source: Path
    output: Path
    report: Path
    policy: Policy
    audio: str
    library: Path
    features: Path
    cache_limit: int
    device: str


def work(pipe: Connection, order: Order) -> None:
    """Run `order`; send ("progress", done, total), then ("done", result, computed, reused) or ("failed", kind, why)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the parent's business
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # the page comes first
    try:
        pipe.send(_hidden(pipe, order))
    except AnonymotionError as error:
        pipe.send(("failed", type(error).__name__, " ".join(str(error).split())))
    except Exception as error:  # noqa: BLE001 - whatever it was, the page must learn of it
        text = " ".join(f"unexpected {type(error).__name__}: {error} (a defect of ours; nothing was written)".split())
        pipe.send(("failed", "Unexpected", text))


def _hidden(pipe: Connection, order: Order) -> tuple[object, ...]:
    from anonymotion.backbone import Backbone
    from anonymotion.device import choose_device
    from anonymotion.pipeline import Hider
    from anonymotion.run import FileOptions, hide_video
    from anonymotion.studio.features import BankShelf, FeatureStore, RememberingBackbone
    from anonymotion.studio.seeing import specs_of
    from anonymotion.user_library import UserLibrary

    library = UserLibrary(order.library, named=False).joined()
    settings, device = order.policy.effective_settings(), choose_device(order.device).device
    store = FeatureStore(order.features, order.cache_limit)
    network = RememberingBackbone(Backbone.load(settings.backbone, device, engine="auto"), store)
    network.also = specs_of(settings, library)
    shelf = BankShelf()
    # Built once before the run, so that descriptors of template pictures do not count as those of frames.
    Hider(policy=order.policy, library=library, network=network, bank_builder=shelf, device=order.device)
    network.restart_counting()

    def progress(now: Progress) -> None:
        pipe.send(("progress", now.done, now.total))

    result = hide_video(
        order.source,
        order.output,
        policy=order.policy,
        files=FileOptions(audio=order.audio, report=order.report),  # type: ignore[arg-type]  # checked there
        progress=progress,
        library=library,
        network=network,
        bank_builder=shelf,
        device=order.device,
    )
    return "done", result.as_json(), network.computed, network.reused


def _end_with_parent(pipe: Connection) -> None:
    """Stop once the other end of the pipe is gone; nothing else is ever received."""
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(143)
