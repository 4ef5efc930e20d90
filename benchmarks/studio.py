"""How quick the studio is: start, first frame, click to map, layers, and scrubbing while a run is under way.

    python benchmarks/studio.py [--clip CLIP] [--repeat 20]

Prints a table of milliseconds, the median and the worst of `--repeat`, as a browser has them: over HTTP, to the last
byte.  Without a clip it makes the sample.  CPU ms is the processor time that the studio itself used for one of them,
which other programs on the machine do not change much.  The load of the machine is printed with it.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

import anonymotion

TICKS = os.sysconf("SC_CLK_TCK")


class Studio:
    """A studio in a process of its own, and a client that knows its token."""

    def __init__(self, clip: Path, temporary: Path) -> None:
        source = str(Path(anonymotion.__file__).resolve().parents[1])
        environment = {**os.environ, "PYTHONPATH": source, "TMPDIR": str(temporary)}
        command = [sys.executable, "-m", "anonymotion", "studio", str(clip), "--no-browser", "--device", "cpu"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        assert self.process.stdout is not None  # noqa: S101 - for type checkers
        self.client = httpx.Client(base_url=self.process.stdout.readline().strip(), timeout=600)

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> httpx.Response:
        """One answer; an error ends the benchmark."""
        answer = self.client.request(method or ("GET" if body is None else "POST"), path, json=body)
        answer.raise_for_status()
        return answer

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the studio has used, without its runs."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def measure(self, repeat: int, action: Callable[[int], object]) -> tuple[float, float, float]:
        """Median and worst milliseconds of `action`, and mean milliseconds of processor time."""
        times, before = [], self.cpu_seconds
        for number in range(repeat):
            start = time.perf_counter()
            action(number)
            times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times), max(times), 1000 * (self.cpu_seconds - before) / repeat

    def close(self) -> None:
        """End it as Ctrl-C does."""
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(300)


def first_frame(studio: Studio) -> str:
    """What the page does from its address to the first frame; the clip's id."""
    for path in ("", "page/style.css", "page/main.js"):
        studio.ask(path)
    clip = studio.ask("api/state").json()["clips"][0]["id"]
    studio.ask(f"api/videos/{clip}")
    studio.ask(f"api/videos/{clip}/frames/0")
    return str(clip)


def click_to_map(studio: Studio, clip: str, frame: int, number: int) -> None:
    """A click at another place each time, and the map that comes of it."""
    info = studio.ask(f"api/videos/{clip}").json()
    place = [(0.1 + 0.04 * (number % 20)) * info["width"], 0.4 * info["height"]]
    body = {"point": place, "attribute": "hair"}
    found = studio.ask(f"api/videos/{clip}/frames/{frame}/candidates", body).json()
    studio.ask(f"api/videos/{clip}/frames/{frame}/similar/{found['id']}")


def report(name: str, values: tuple[float, float, float]) -> None:
    """One row."""
    print(f"| {name} | {values[0]:.0f} | {values[1]:.0f} | {values[2]:.0f} |", flush=True)


def rows(studio: Studio, repeat: int, opened: float) -> None:
    """All of the table."""
    print("| what | median ms | worst ms | CPU ms |\n|---|---|---|---|")
    start = time.perf_counter()
    clip = first_frame(studio)
    shown = 1000 * (time.perf_counter() - start)
    report("from the command to the printed URL", (opened, opened, 0))
    report("from the URL to the first frame (once, the network is still loading)", (shown, shown, 0))
    frames = studio.ask(f"api/videos/{clip}").json()["frames"]
    base = f"api/videos/{clip}/frames"
    report("features of a frame (once each)", studio.measure(2, lambda n: studio.ask(f"{base}/{n}/features", {})))
    report("click to map, features there", studio.measure(repeat, lambda n: click_to_map(studio, clip, 0, n)))
    policy = {"policy": {"attributes": ["face", "hair"]}, "seen": 0}
    studio.ask("api/policy", policy, "PUT")
    once = studio.measure(1, lambda n: studio.ask(f"{base}/0/heat/hair"))
    report("heat map of an attribute, first time (fits the probes)", once)
    report("heat map of an attribute", studio.measure(repeat, lambda n: studio.ask(f"{base}/0/heat/hair")))
    report("mask of a frame, first time", studio.measure(1, lambda n: studio.ask(f"{base}/0/layers/outline")))
    report("why a pixel is hidden", studio.measure(repeat, lambda n: studio.ask(f"{base}/0/pixel?x=9&y=9")))

    def scrub(number: int) -> None:
        studio.ask(f"{base}/{(7 * number) % frames}?draft=true")

    report("scrubbing, a frame anywhere", studio.measure(repeat, scrub))
    job = studio.ask("api/jobs", {"clips": [clip]}).json()[0]["id"]
    while not studio.ask(f"api/jobs/{job}").json()["done"]:
        time.sleep(0.2)
    report("scrubbing during a run", studio.measure(repeat, scrub))
    report("click to map during a run", studio.measure(repeat, lambda n: click_to_map(studio, clip, 0, n)))
    state = studio.ask(f"api/jobs/{job}").json()
    print(f"\nThe run was {state['state']} at frame {state['done']} of {state['total']} then.")
    studio.client.delete(f"api/jobs/{job}")


def main() -> None:
    """Parse, make the clip if need be, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--repeat", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = chosen.clip or Path(folder) / "clip.mp4"
        if chosen.clip is None:
            from anonymotion.sample import make_sample

            make_sample(clip)
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before\n")
        start = time.perf_counter()
        studio = Studio(clip, Path(folder))
        try:
            rows(studio, chosen.repeat, 1000 * (time.perf_counter() - start))
        finally:
            studio.close()
        print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
