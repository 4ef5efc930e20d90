"""The queue of runs: one at a time, each in a process of its own, with progress, an end, and a way to stop it.

A run's policy is that of the moment when it was asked for.  Its video and report appear together when it went well, by
the contract of `run.hide_video`, and not at all otherwise.

Not here: what happens in the process (worker), who asks (routes).
"""

from __future__ import annotations

import multiprocessing
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from anonymotion import leftovers, video
from anonymotion.policy import Policy
from anonymotion.studio.clips import Clip
from anonymotion.studio.worker import Order, work

WRITABLE = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")
STOP_SECONDS = 5.0
RECENT = 12
"""Frames that the speed is a mean of."""

ENDED = ("done", "failed", "stopped")


@dataclass
class Job:
    """One run, asked for, under way or ended.

    state: `waiting`, `running`, or one of `ENDED`.  computed, reused: frames whose features were computed, or there.
    """

    id: str
    clip: Clip
    policy: Policy
    audio: str
    name: str
    folder: Path
    output: Path
    state: str = "waiting"
    done: int = 0
    total: int | None = None
    error: dict[str, str] | None = None
    result: dict[str, Any] | None = None
    computed: int = 0
    reused: int = 0
    started: float | None = None
    ended: float | None = None
    _ticks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT), repr=False)
    _frames: video.FrameAccess | None = field(default=None, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def report(self) -> Path:
        """The audit report as JSON; there once the run is done."""
        return self.folder / "report.json"

    @property
    def frames_per_second(self) -> float | None:
        """Speed over the last frames; of the whole run once it has ended."""
        if self.ended is not None and self.started is not None and self.done:
            return self.done / max(self.ended - self.started, 1e-6)
        if len(self._ticks) < 2:
            return None
        (first, before), (last, now) = self._ticks[0], self._ticks[-1]
        return (now - before) / max(last - first, 1e-6)

    @property
    def remaining_seconds(self) -> float | None:
        """Of a run under way; None where it cannot be said yet."""
        speed = self.frames_per_second
        if self.state != "running" or not speed or self.total is None:
            return None
        return max(0, self.total - self.done) / speed

    def progressed(self, done: int, total: int | None) -> None:
        """Note that `done` frames of `total` are hidden."""
        self.done, self.total = done, total
        self._ticks.append((time.monotonic(), done))

    def frame(self, number: int) -> video.Frame:
        """A frame of the output.  Raises InputError."""
        with self.lock:
            if self._frames is None:
                self._frames = video.open_frames(self.output)
            return self._frames.frame(number)

    def close(self) -> None:
        """Let go of the output."""
        with self.lock:
            if self._frames is not None:
                self._frames.close()
                self._frames = None


class Queue:
    """Runs jobs one after the other in a thread that waits for their processes.

    results: the folder for videos; `kept`: it is one that the user named.  private: a folder for reports.
    """

    def __init__(
        self, results: Path, private: Path, library: Path, features: Path, *, kept: bool, cache_limit: int, device: str
    ) -> None:
        self._results, self._private, self._kept = results, private, kept
        self._library, self._features, self._cache_limit, self._device = library, features, cache_limit, device
        self.jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._current: tuple[Job, multiprocessing.process.BaseProcess] | None = None
        self._closed = False
        for folder in (results, private):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._thread = threading.Thread(target=self._work, name="studio-queue", daemon=True)
        self._thread.start()

    def add(self, clip: Clip, policy: Policy, audio: str) -> Job:
        """Put a run at the end of the queue."""
        with self._changed:
            job_id = secrets.token_hex(6)
            folder = self._private / job_id
            folder.mkdir(mode=0o700)
            name = self._free_name(clip)
            place = self._results if self._kept else folder
            job = Job(job_id, clip, policy, audio, name, folder, place / name)
            self.jobs[job_id] = job
            self._waiting.append(job)
            self._changed.notify_all()
            return job

    def _free_name(self, clip: Clip) -> str:
        source = Path(clip.name)
        suffix = source.suffix.lower()
        suffix = ".png" if clip.is_picture else suffix if suffix in WRITABLE else ".mp4"
        used = {job.name for job in self.jobs.values()}
        number = 1
        while True:
            name = f"{source.stem}_hidden{'' if number == 1 else f'_{number}'}{suffix}"
            if name not in used and not (self._kept and (self._results / name).exists()):
                return name
            number += 1

    def stop(self, job: Job) -> None:
        """End a run, or take it out of the queue; nothing of it is left.  One that has ended stays as it is."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job.state = "stopped"
            elif job.state == "running" and self._current is not None and self._current[0] is job:
                job.state = "stopped"
                process = self._current[1]
            else:
                return
            self._changed.notify_all()
        if job.started is not None:
            _end(process)

    def close(self) -> None:
        """Stop everything and wait for it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for job in list(self.jobs.values()):
            self.stop(job)
        self._thread.join()
        for job in self.jobs.values():
            job.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._waiting.popleft()
                process, pipe = self._start(job)
            self._follow(job, pipe)
            process.join(STOP_SECONDS)
            _end(process)
            pipe.close()
            leftovers.sweep(job.output.parent)
            with self._changed:
                self._current = None
                job.ended = job.ended or time.monotonic()
                if job.state == "running":  # it died without a word
                    job.state = "failed"
                    text = f"the run ended without a result (exit status {process.exitcode}); nothing was written"
                    job.error = {"type": "Unexpected", "message": text}

    def _start(self, job: Job) -> tuple[multiprocessing.process.BaseProcess, Connection]:
        """Under the lock: the process of a job, running."""
        ours, theirs = multiprocessing.Pipe()
        order = Order(
            source=job.clip.path,
            output=job.output,
            report=job.report,
            policy=job.policy,
            audio=job.audio,
            library=self._library,
            features=self._features,
            cache_limit=self._cache_limit,
            device=self._device,
        )
        # spawn: this process has threads and maybe a CUDA context, which a fork would break
        process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, order), daemon=True)
        job.state, job.started = "running", time.monotonic()
        process.start()
        theirs.close()
        self._current = (job, process)
        return process, ours

    def _follow(self, job: Job, pipe: Connection) -> None:
        """Take what the process tells until it ends."""
        while True:
            try:
                kind, *values = pipe.recv()
            except (EOFError, OSError):
                return
            with self._changed:
                if job.state != "running":
                    if kind == "done":  # stopped in the moment in which it appeared
                        job.output.unlink(missing_ok=True)
                        job.report.unlink(missing_ok=True)
                    continue
                if kind == "progress":
                    job.progressed(*values)
                elif kind == "done":
                    job.result, job.computed, job.reused = values
                    # now, not when the process is gone: whoever sees it done may ask how fast it was
                    job.state, job.ended = "done", time.monotonic()
                else:
                    job.error = {"type": values[0], "message": values[1]}
                    job.state = "failed"


def _end(process: multiprocessing.process.BaseProcess) -> None:
    """End a process, politely first."""
    if process.is_alive():
        process.terminate()
        process.join(STOP_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
