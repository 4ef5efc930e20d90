"""The attack report as a file: JSON, or one page of HTML with pictures, no scripts, nothing from elsewhere, every text
escaped.

Not here: what is in the report (outcome).
"""

from __future__ import annotations

import base64
import io
import json
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anonymotion.attacks.outcome import CLAIM, NOT_HIDDEN, WARNING, Outcome
from anonymotion.attacks.scores import Finding, Grey, Region
from anonymotion.errors import SettingsError
from anonymotion.target import check_target, whole_file

SUFFIXES = (".html", ".json")

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --warn: #d55e00; --good: #009e73; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 64rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .25rem .6rem .25rem 0;
  border-bottom: 1px solid var(--line); } th { font-weight: 600; } td + td { font-variant-numeric: tabular-nums; }
.box { border-left: .3rem solid var(--line); padding: .4rem .8rem; margin: .8rem 0; }
.warn { border-color: var(--warn); } .good { border-color: var(--good); }
figure { display: inline-block; margin: .3rem .6rem .6rem 0; vertical-align: top; width: 11rem; }
figure img { width: 100%; image-rendering: pixelated; } figcaption { font-size: .8rem; }
"""


class AttackReport:
    """The report's file, .html or .json, readable by its owner alone; checked before anything is read."""

    def __init__(self, path: Path, original: Path, *, force: bool) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SettingsError(f"report {path.name!r} has the suffix {path.suffix!r}: use .html or .json")
        check_target(path, original, force=force)
        self.path, self._force = path, force

    def write(self, outcome: Outcome) -> None:
        """Let the whole report appear.  Raises OutputError, and leaves nothing."""
        text = json.dumps(outcome.as_json(), indent=2) + "\n"
        if self.path.suffix.lower() == ".html":
            text = page(outcome)
        with whole_file(self.path, force=self._force, private=True) as partial:
            partial.write_text(text, encoding="utf-8")


def page(outcome: Outcome) -> str:
    """The whole page."""
    scene, examination = outcome.view.scene, outcome.examination
    verdict = "warn" if outcome.recovered else "good"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        # no scripts, no requests
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>anonymotion attack report</title><style>{_STYLE}</style></head><body>",
        "<h1>What an adversary recovers</h1>",
        f'<p class="box warn"><strong>{escape(WARNING)}</strong></p>',
        *(f'<p class="box {verdict}">{escape(line)}</p>' for line in outcome.lines()),
        f"<p>{escape(CLAIM)} The adversary knows the method, the exact mask and the true motion.</p>",
        f"<h2>Frame {outcome.stretch.reference}, the best that each attack gives</h2>",
        _figure("the original", scene.truth),
        *(
            _figure(_caption(found), shown(examination.pictures[found.attack], scene.truth, scene.core))
            for found in examination.findings
        ),
        "<h2>Scores</h2>",
        "<p>NCC: normalised cross-correlation with the original inside the mask. SSIM: structural similarity after "
        "the best brightness and contrast. The ranges hold one more output of unrelated content with 99 %. The rim "
        "lies outside of the mask, and is soft on purpose.</p>",
        _table(examination.findings),
        "<h2>What is not hidden</h2>",
        "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in NOT_HIDDEN) + "</ul>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def shown(estimate: Grey, truth: Grey, core: Region) -> Grey:
    """An estimate with the mean and the contrast that the original has in the core, so that anything in it shows."""
    spread = float(estimate[core].std())
    gain = float(truth[core].std()) / spread if spread > 1e-6 else 0.0
    return np.asarray((estimate - estimate[core].mean()) * gain + truth[core].mean(), np.float32)


def _caption(found: Finding) -> str:
    inside = "as chance" if found.inside else "more than chance"
    return f"{found.attack}: NCC {found.score.ncc:.2f}, {inside}"


def _figure(text: str, picture: Grey) -> str:
    return f'<figure><img src="{_png(picture)}" alt="{escape(text)}"><figcaption>{escape(text)}</figcaption></figure>'


def _png(picture: NDArray[np.float32]) -> str:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).round().astype(np.uint8)).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _table(findings: list[Finding]) -> str:
    head = (
        "<tr><th>attack</th><th>where</th><th>NCC</th><th>by chance</th><th>SSIM</th><th>by chance</th><th></th></tr>"
    )
    rows = []
    for found in findings:
        ranges = [f"{pair.low:.2f} to {pair.high:.2f}" for pair in (found.ncc_range, found.ssim_range)]
        verdict = "as chance" if found.inside else "more than chance"
        if found.reference is not None:
            verdict += f"; from a black hole {found.reference.ncc:.2f}"
        cells = (
            found.attack,
            found.region,
            f"{found.score.ncc:.3f}",
            ranges[0],
            f"{found.score.ssim:.3f}",
            ranges[1],
            verdict,
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table>{head}{''.join(rows)}</table>"
