"""The audit report as one page of HTML: no scripts, nothing from elsewhere, every text escaped.

Not here: what is in the report (report).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

MOST_ROWS = 300
"""Frames to review that the page lists; the JSON report lists all."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 860, 240, 44, 24
_MOST_POINTS = 400
# told apart also by people who do not see red and green (Okabe and Ito)
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8b6f00", "#7a5195", "#666666")

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --warn: #d55e00; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 56rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
  padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { font-weight: 600; } td:first-child, th:first-child { white-space: nowrap; overflow-wrap: normal; }
.box { border-left: .3rem solid var(--line); padding: .4rem .8rem; margin: .8rem 0; }
.warn { border-color: var(--warn); }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.legend span { display: inline-block; margin-right: 1.2rem; } .legend i { display: inline-block; width: 1rem;
  height: .25rem; margin-right: .4rem; vertical-align: middle; }
figure { display: inline-block; margin: .3rem .6rem .3rem 0; } figcaption { font-size: .8rem; }
code { overflow-wrap: anywhere; }
"""


def page(report: dict[str, Any]) -> str:
    """The whole page of a report, as `report.Report` puts it together."""
    output = report["output"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        # no scripts, no requests: whatever a name in the report may contain
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        'img-src data:">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>anonymotion report: {escape(output['name'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>What was hidden in {escape(output['name'])}</h1>",
        f'<p class="box warn"><strong>{escape(report["disclaimer"])}</strong> This report lists what was done and what '
        "the machine itself found doubtful. It cannot list what was missed without a doubt, and it makes no claim "
        "of legal anonymity. Gait, gestures, voices, clothes and places can identify people, too.</p>",
        *(
            f'<p class="box warn"><strong>Not for release:</strong> {escape(text)}</p>'
            for text in report["not_for_release"]
        ),
        _table("", _facts(report)),
        "<h2>How much of the picture was hidden</h2>",
        _plot(report),
        "<h2>Frames to review</h2>",
        _review(report),
        _thumbnails(report.get("thumbnails", {})),
        "<h2>What was dropped or changed</h2>",
        _list(
            [
                "Title, location, dates, chapters, subtitles, attachments and all other metadata of the input were "
                "not copied.",
                *report["notes"],
            ]
        ),
        "<h2>Settings</h2>",
        _table("", [(name, _text(value)) for name, value in report["settings"].items()]),
        "<h2>Versions</h2>",
        _table("", report["versions"].items()),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    coverage, source = report["coverage"], report.get("source")
    seconds = report["seconds"]
    facts = [
        ("Attributes", ", ".join(report["attributes"])),
        ("Frames", str(report["frames"])),
        (
            "Hidden",
            f"{coverage['hidden_share_mean']:.1%} of the picture (mean), {coverage['hidden_share_max']:.1%} (most)",
        ),
        ("Frames without a match", str(coverage["frames_without_match"])),
        ("Audio", report["audio"]),
        ("Matching", f"{report['backbone']['name']} (weights {report['backbone']['weights_sha256'][:16]})"),
        ("Optical flow", report["flow"]),
        ("Device", f"{report['device']['name']}: {report['device']['reason']}"),
        ("Time", f"{seconds['total']:.1f} s, {report['frames_per_second']} frames per second"),
        ("Output", report["output"]["name"]),
        ("SHA-256 of the output", report["output"]["sha256"]),
    ]
    if source:
        facts += [("Source", source["name"]), ("SHA-256 of the source", source["sha256"])]
    return facts


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(entry)}" for key, entry in value.items()) or "none"
    return str(value)


def _table(head: str, rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table>{head}{body}</table>"


def _list(sentences: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences) + "</ul>"


def _review(report: dict[str, Any]) -> str:
    frames = report["frames_to_review"]
    if not frames:
        return "<p>None stands out. Look at the whole output nevertheless.</p>"
    head = f"<p>{len(frames)} of {report['frames']} frames; look at the others as well.</p>"
    rows = [
        (f"{entry['frame']} ({entry['time_seconds']:.2f} s)", "; ".join(entry["reasons"]))
        for entry in frames[:MOST_ROWS]
    ]
    more = len(frames) - len(rows)
    tail = f"<p>{more} more are in the report as JSON.</p>" if more else ""
    return head + _table("<tr><th>frame</th><th>why</th></tr>", rows) + tail


def _thumbnails(pictures: dict[str, str]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure><img src="{escape(data)}" alt="frame {escape(index)} of the output">'
        f"<figcaption>frame {escape(index)}</figcaption></figure>"
        for index, data in pictures.items()
    )
    return f"<h2>Pictures of the output</h2><p>As it is to be published.</p><div>{figures}</div>"


# ---------------------------------------------------------------------- the plot


def _plot(report: dict[str, Any]) -> str:
    over_time = report["over_time"]
    times, hidden = over_time["time_seconds"], over_time["hidden_share"]
    curves = {"hidden in all": hidden, **over_time["attribute_share"]}
    top = max(0.01, *(max(values) for values in curves.values()))
    first, span = times[0], max(times[-1] - times[0], 1e-9)
    right, base = _WIDTH - 8, _HEIGHT - _BOTTOM

    def place(time: float, share: float) -> str:
        x = _LEFT + (time - first) / span * (right - _LEFT)
        return f"{x:.1f},{base - share / top * (base - 10):.1f}"

    lines, legend = [], []
    for number, (name, values) in enumerate(curves.items()):
        colour = "currentColor" if number == 0 else _COLOURS[(number - 1) % len(_COLOURS)]
        points = " ".join(place(times[i], values[i]) for i in _worth_drawing(values))
        width = "2" if number == 0 else "1.3"
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>')
        legend.append(f'<span><i style="background:{colour}"></i>{escape(name)}</span>')
    for entry in _thinned(report["frames_to_review"]):
        x = place(entry["time_seconds"], 0).split(",")[0]
        lines.append(f'<line x1="{x}" x2="{x}" y1="{base}" y2="{base - 7}" stroke="#d55e00"/>')
    axes = "".join(
        f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity=".2"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * share:.0%}</text>'
        for share in (0, 0.5, 1)
        for y in [base - share * (base - 10)]
    )
    ends = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">{times[0]:.1f} s</text>'
        f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{times[-1]:.1f} s</text>'
    )
    legend.append('<span><i style="background:#d55e00"></i>mark on the axis: frame to review</span>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Share of the picture that was hidden, over '
        f'time">{axes}{"".join(lines)}{ends}</svg><p class="legend">{"".join(legend)}</p>'
    )


def _worth_drawing(values: Sequence[float]) -> list[int]:
    """Indices of at most so many values; of each stretch the lowest and the highest, so that no drop-out is lost."""
    if len(values) <= _MOST_POINTS:
        return list(range(len(values)))
    stretch = 2 * len(values) / _MOST_POINTS
    chosen: set[int] = set()
    for number in range(_MOST_POINTS // 2):
        part = range(round(number * stretch), min(round((number + 1) * stretch), len(values)))
        chosen |= {min(part, key=values.__getitem__), max(part, key=values.__getitem__)}
    return sorted(chosen)


def _thinned(entries: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    return entries[:: max(1, len(entries) // _MOST_POINTS)]
