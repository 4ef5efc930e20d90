"""Bad days, many times: `python benchmarks/faults.py [--times 5] [--kills 50]` prints a Markdown table.

Every fault of tests/bad_days.py, every polite signal, SIGKILL at moments spread over a run, a disk that is full and one
that is read-only (small file systems in memory, mounted where this may be done), each in real processes that hide a
clip of 60 frames with masks, dump and report beside it.  For each: how often a file was at the final path, what was
left, what of it others could read, what was left once the next run had begun, and the exit statuses.

The network is the tests' tiny one (tiny_hide.py); everything else is the real command line.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tiny_hide import fork, prepare, wait  # tiny_hide makes the tests' modules importable

from bad_days import FAULTS, SIGNALS  # isort: skip
from synthetic import make_clip  # isort: skip

from anonymotion.leftovers import sweep

FRAMES = 60
FOREIGN = ("appears at the target",)


@dataclass
class Row:
    """What came of one fault."""

    times: int = 0
    final: int = 0
    foreign: int = 0
    left: Counter[str] = field(default_factory=Counter)
    readable: int = 0
    left_later: int = 0
    input_changed: int = 0
    incomplete: int = 0
    exits: Counter[str] = field(default_factory=Counter)

    def markdown(self, name: str) -> str:
        """One line of the table."""
        left = ", ".join(f"{count} {what}" for what, count in sorted(self.left.items())) or "nothing"
        exits = ", ".join(f"{status} ({count})" for status, count in sorted(self.exits.items()))
        return (
            f"| {name} | {self.times} | {self.final} | {left} | {self.readable} | {self.left_later} "
            f"| {self.input_changed} | {exits} |"
        )


class Bench:
    """One clip, and a fresh folder for each run that hides it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.clip = make_clip(scratch / "in.mp4", frames=FRAMES, audio=["aac"])
        self.bytes = self.clip.read_bytes()
        self.temporary = scratch / "temporary"
        self.temporary.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.temporary)

    def start(self, folder: Path, *, fault: str = "", pace: float = 0.0) -> int:
        """A run with every output there is."""
        side = ["--export-masks", str(folder / "masks"), "--dump", str(folder / "dump")]
        side += ["--report", str(folder / "report.html")]
        arguments = [str(self.clip), "-o", str(folder / "hidden.mp4"), *side]
        return fork(arguments, self.scratch / "log", fault=fault, pace=pace)

    def look(self, row: Row, folder: Path, name: str, status: int | None) -> None:
        """Add what a run has left to `row`."""
        row.times += 1
        row.exits["hang" if status is None else str(status)] += 1
        final = folder / "hidden.mp4"
        places = [place for place in (folder, folder.with_name("moved")) if place.exists()]
        left = [path for place in places for path in place.iterdir()]
        if any(words in name for words in FOREIGN):
            left.remove(final)  # somebody else's
            row.foreign += 1
        elif final.exists():
            row.final += 1
        if status == 0:
            whole = {"hidden.mp4", "masks", "dump", "report.html"} == {path.name for path in left}
            # counted by its masks: a process that has decoded something does not fork well
            row.incomplete += not whole or len(list((folder / "masks").iterdir())) != FRAMES
        else:
            for path in left:
                kind = "hidden " if ".partial" in path.name else ""
                row.left[kind + path.name.lstrip(".").split(".")[0]] += 1
                row.readable += bool(path.lstat().st_mode & 0o077) and not path.is_symlink()
        row.left["temporary file"] += len(list(self.temporary.iterdir()))
        row.left += Counter()  # drops zeros
        for place in places:
            sweep(place)
            if status != 0:
                row.left_later += sum(".partial" in path.name for path in place.iterdir())
        row.input_changed += self.clip.read_bytes() != self.bytes

    def fresh(self) -> Path:
        """A new folder for outputs."""
        for name in ("out", "moved"):
            shutil.rmtree(self.scratch / name, ignore_errors=True)
        (self.scratch / "out").mkdir()
        return self.scratch / "out"

    def faults(self, name: str, times: int) -> Row:
        """The fault `name`, at moments spread over the run."""
        row = Row()
        for number in range(times):
            folder = self.fresh()
            chunks = 1 + number * (FRAMES // 8) // max(times, 1)  # a chunk holds eight of these small frames
            self.look(row, folder, name, wait(self.start(folder, fault=f"{name}@{chunks}"), 120))
        return row

    def kills(self, times: int, number: int) -> Row:
        """A signal from outside, at moments spread evenly from the start of the run to a little after its end."""
        folder, start = self.fresh(), time.monotonic()
        status = wait(self.start(folder, pace=0.01), 120)
        if status != 0:
            raise SystemExit(f"a run without a fault ended with {status}: {(self.scratch / 'log').read_text()}")
        length = time.monotonic() - start
        row = Row()
        for count in range(times):
            folder = self.fresh()
            child = self.start(folder, pace=0.01)
            time.sleep(length * 1.02 * (count + random.random()) / times)
            os.kill(child, number)
            self.look(row, folder, "kill", wait(child, 120))
        return row

    def small_disk(self, times: int, options: str, fault: str) -> Row | None:
        """The outputs on a file system of its own; None where none can be mounted."""
        row = Row()
        for number in range(times):
            folder = self.fresh()
            size = options.format(size=16 + 40 * number)
            if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=False).returncode:
                return None
            try:
                self.look(row, folder, fault, wait(self.start(folder), 120))
            finally:
                subprocess.run(["umount", "-l", str(folder)], check=True)
        return row


def main() -> None:
    """Run everything; exit status 1 if a file was at the final path, or anything was left that must not be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--scratch", type=Path, default=None, help="where to work; a new temporary folder if left out")
    arguments = parser.parse_args()
    os.umask(0o022)
    prepare()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        bench = Bench(Path(scratch))
        rows = {name: bench.faults(name, arguments.times) for name in (*FAULTS, *SIGNALS)}
        rows["SIGTERM from outside"] = bench.kills(arguments.times, signal.SIGTERM)
        rows["SIGKILL"] = bench.kills(arguments.kills, signal.SIGKILL)
        for name, options in (
            ("disk of 16 kB and more full", "size={size}k"),
            ("disk is read-only", "size={size}k,ro"),
        ):
            row = bench.small_disk(arguments.times, options, name)
            if row is not None:
                rows[name] = row
    print("| fault | times | file at the final path | left | readable for others | left after the next start ", end="")
    print("| input changed | exit status (times) |\n|---|---|---|---|---|---|---|---|")
    bad = 0
    for name, row in rows.items():
        print(row.markdown(name))
        finished = row.exits["0"]  # a signal may come after the end
        bad += row.final - finished + row.readable + row.left_later + row.input_changed + row.incomplete
        bad += row.exits["hang"] + (name not in ("SIGKILL", "SIGTERM from outside")) * finished
    print(f"\n{sum(row.times for row in rows.values())} runs, {bad} of them not as the contract says.")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
