"""Tables and sheets of all cells: `attacks.csv`, `attacks.md`, and `sheet.METHOD.png`.

Not here: what is measured (attacks.py).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from anonymotion import overlays
from anonymotion.attacks.page import shown
from anonymotion.attacks.recovery import RIM
from anonymotion.attacks.scores import Finding
from attacking import faces, repeats
from attacking.cells import STAGES, Cell, load, path_of

Cells = dict[str, dict[str, Cell]]
PANEL = 150
AVERAGES = ("average of 3", "average of 10", "average of 60", "average of all", "temporal mean", "temporal median")


def write(folder: Path, names: Sequence[str], methods: Sequence[str]) -> None:
    """Write everything that the cells in `folder` give."""
    cells: Cells = {
        method: {name: load(folder, name, method) for name in names if path_of(folder, name, method).exists()}
        for method in methods
    }
    cells = {method: found for method, found in cells.items() if found}
    _write_rows(cells, folder / "attacks.csv")
    parts = [_main_table(cells, stage) for stage in STAGES]
    parts += [_verdicts(cells), _averaging(cells), _clips(cells)]
    if (folder / "faces.csv").exists():
        parts.append(_faces(folder / "faces.csv", list(cells)))
    if again := list(repeats.table_rows(folder, STAGES)):
        head = ("method", "", "attack", "clips", "outputs", "mean NCC", "mean absolute NCC", "of unrelated content")
        parts.append(_table(head, again))
    (folder / "attacks.md").write_text("\n\n".join(parts) + "\n")
    for method, found in cells.items():
        _sheet(found).save(folder / f"sheet.{method.replace(', ', '-')}.png")


def _findings(cells: Cells, method: str, stage: str) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = defaultdict(list)
    for cell in cells[method].values():
        for entry in cell.stages[stage].findings:
            found[entry.attack].append(entry)
    return found


def _write_rows(cells: Cells, path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        head = ("method", "clip", "stage", "attack", "region", "ncc", "ncc_low", "ncc_high", "ssim", "ssim_low")
        writer.writerow((*head, "ssim_high", "inside", "inside_jointly", "nulls", "reference_ncc"))
        for method, by_clip in cells.items():
            for clip, cell in by_clip.items():
                for stage in STAGES:
                    for entry in cell.stages[stage].findings:
                        row = entry.as_json()
                        reference = row.get("reference", {}).get("ncc", "")
                        ends = (row["ncc"], *row["ncc_range"], row["ssim"], *row["ssim_range"])
                        verdict = (row["inside"], row["inside_jointly"], row["nulls"], reference)
                        writer.writerow((method, clip, stage, entry.attack, entry.region, *ends, *verdict))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _main_table(cells: Cells, stage: str) -> str:
    """Mean NCC over clips, and in how many clips it is beyond chance."""
    by_method = {method: _findings(cells, method, stage) for method in cells}
    attacks = list(dict.fromkeys(name for found in by_method.values() for name in found))
    rows = []
    for attack in attacks:
        row = [f"{attack} (outside the mask)" if attack == RIM else attack]
        for found in by_method.values():
            entries = found.get(attack, [])
            mean = np.mean([entry.score.ncc for entry in entries]) if entries else 0.0
            beyond = sum(not entry.inside for entry in entries)
            row.append(f"{mean:.2f} ({beyond}/{len(entries)})" if entries else "-")
        rows.append(row)
    title = f"**{STAGES[stage]}**: mean NCC over clips (clips beyond the 99 % range of chance / clips)"
    return f"{title}\n\n{_table(['attack', *by_method], rows)}"


def _verdicts(cells: Cells) -> str:
    rows = []
    for method in cells:
        for stage, name in STAGES.items():
            inside = [entry for cell in cells[method].values() for entry in cell.stages[stage].of_the_core]
            beyond = [entry for entry in inside if not entry.inside]
            jointly = sum(not entry.inside_jointly for entry in inside)
            best = max(inside, key=lambda entry: abs(entry.score.ncc))
            rows.append(
                (method, name, str(len(inside)), str(len(beyond)), str(jointly), f"{best.attack} {best.score.ncc:.2f}")
            )
    head = ("method", "", "attacks x clips", "beyond 99 %", "beyond the joint 99 %", "largest NCC")
    return _table(head, rows)


def _averaging(cells: Cells) -> str:
    """Mean |NCC| over clips of un-denoised averaging."""
    rows = []
    for method in cells:
        for stage, text in STAGES.items():
            found = _findings(cells, method, stage)
            means = [f"{np.mean([abs(entry.score.ncc) for entry in found[name]]):.3f}" for name in AVERAGES]
            rows.append((method, text, *means))
    return f"mean |NCC| over clips\n\n{_table(('method', '', *AVERAGES), rows)}"


def _clips(cells: Cells) -> str:
    """Where the masks let something through, per clip, of the first method."""
    by_clip = next(iter(cells.values()))
    rows = []
    for clip, cell in by_clip.items():
        rim = [entry for entry in cell.stages["after"].findings if entry.attack == RIM]
        size = f"{cell.truth.shape[1]}x{cell.truth.shape[0]}"
        leak = f"{rim[0].score.ncc:.2f} ({rim[0].ncc_range.low:.2f} to {rim[0].ncc_range.high:.2f})" if rim else "-"
        rows.append((clip, size, str(int(cell.core.sum())), f"{cell.uncovered:.0%}", leak))
    head = ("clip", "crop", "core pixels", "leaves the mask", "rim NCC (chance)")
    return _table(head, rows)


def _faces(path: Path, methods: Sequence[str]) -> str:
    with path.open() as file:
        found = list(csv.DictReader(file))
    rows = []
    for method in ("original", *methods):
        keys = dict.fromkeys((row["stage"], row["picture"]) for row in found if row["method"] == method)
        for stage, picture in keys:
            hits = [row for row in found if (row["method"], row["stage"], row["picture"]) == (method, stage, picture)]
            first = sum(row["rank"] == "1" for row in hits)
            low, high = faces.interval(first, len(hits))
            margin = np.mean([float(row["margin"]) for row in hits])
            gallery = int(hits[0]["gallery"])
            text = f"{first}/{len(hits)}"
            where = STAGES.get(stage, "")
            rows.append(
                (method, where, picture, text, f"{low:.2f} to {high:.2f}", f"{1 / gallery:.2f}", f"{margin:+.2f}")
            )
    return _table(("method", "", "picture", "rank 1", "95 % interval", "chance", "mean margin"), rows)


def _sheet(by_clip: dict[str, Cell]) -> Image.Image:
    """A row per clip: the original, and what each attack made of the encoded output."""
    names = list(dict.fromkeys(name for cell in by_clip.values() for name in cell.stages["after"].pictures))
    panels = []
    for clip, cell in by_clip.items():
        pictures = {clip: cell.truth}
        for name in names:
            estimate = cell.stages["after"].pictures.get(name)
            missing = np.zeros_like(cell.truth)
            pictures[name] = missing if estimate is None else shown(estimate, cell.truth, cell.core)
        for name, picture in pictures.items():
            grey = np.repeat(np.clip(picture, 0, 255).round().astype(np.uint8)[..., None], 3, axis=2)
            panels.append(overlays.captioned(overlays.fit(grey, PANEL, PANEL), name[:22]))
    return Image.fromarray(overlays.sheet(panels, columns=len(names) + 1))
