"""Damaged inputs, by the thousand: `python benchmarks/fuzz.py [--count 2000] [--seed 0] [--limit 60]`.

Each input is a mutated file (mutations.py), given to `anonymotion hide` in a process of its own with a limit of time
and of memory.  Wanted: exit status 0, or 1 or 3 with one line and no output.  Counted as bad: a traceback, an error
that is called a defect, a crash, a hang, an output although the run failed, no output although it did not.

The network is the tests' tiny one (tiny_hide.py).  `--keep DIR` keeps inputs that came out badly.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

import tiny_hide
from mutations import mutate, seeds

OUTPUTS = (".mp4", ".mkv", ".webm", ".gif", ".avi", "")
MEMORY = 3 << 30
COLUMNS = ("refused", "accepted", "nothing matched", "traceback or defect", "crash", "hang", "output after failure")
BAD = ("traceback or defect", "crash", "hang", "output after failure", "no output")


def judge(status: int | None, log: str, outputs: list[Path]) -> str:
    """Which column a run belongs to."""
    if status is None:
        return "hang"
    if status < 0:
        return "crash"
    if "Traceback" in log or "defect" in log or status not in (0, 1, 3):
        return "traceback or defect"
    if status == 0:
        return "accepted" if outputs else "no output"
    if outputs:
        return "output after failure"
    return "nothing matched" if status == 3 else "refused"


def main() -> None:
    """Run; print a table of what came of the inputs, by seed; exit status 1 if any of them came out badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60, help="seconds that one input may take")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    chosen = random.Random(arguments.seed)
    tiny_hide.prepare()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    table: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        (scratch / "seeds").mkdir()
        originals = seeds(scratch / "seeds")
        names = list(originals)
        for number in range(arguments.count):
            name = names[number % len(names)]
            data = mutate(originals[name], chosen)
            source = scratch / f"in{Path(name).suffix}"
            source.write_bytes(data)
            out = scratch / "out"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            suffix = ".png" if name.startswith("picture") else chosen.choice(OUTPUTS)
            flags = chosen.choice(([], [], ["--allow-truncated"], ["--audio", "drop"]))
            log = scratch / "log"
            child = tiny_hide.fork([str(source), "-o", str(out / f"hidden{suffix}"), *flags], log)
            status = tiny_hide.wait(child, arguments.limit)
            text = log.read_text(errors="replace")
            verdict = judge(status, text, list(out.iterdir()))
            table.setdefault(name, Counter())[verdict] += 1
            if verdict in BAD:
                last = (text.strip().splitlines() or ["nothing was said"])[-1]
                print(f"input {number} ({name}): {verdict}: {last[:300]}", file=sys.stderr, flush=True)
                if arguments.keep:
                    arguments.keep.mkdir(exist_ok=True)
                    (arguments.keep / f"{number:05d}_{name}").write_bytes(data)
                    (arguments.keep / f"{number:05d}.log").write_text(f"{flags} {suffix}\n{text}")
            source.unlink()
    print(f"| seed | inputs | {' | '.join(COLUMNS)} |\n|---{'|---' * (len(COLUMNS) + 1)}|")
    total: Counter[str] = Counter()
    for name, row in table.items():
        total += row
        print(f"| {name} | {row.total()} | {' | '.join(str(row[column]) for column in COLUMNS)} |")
    print(f"| all | {total.total()} | {' | '.join(str(total[column]) for column in COLUMNS)} |")
    bad = sum(total[verdict] for verdict in BAD)
    print(f"\n{total.total()} inputs, {bad} of them came out badly (seed {arguments.seed}).")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
