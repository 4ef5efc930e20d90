"""The audit report of a run (`--report`): what was done, how much was hidden when, and which frames to look at.

It says nothing about the source unless asked to, and shows pictures (of the output) only when asked to.  A report is
no proof: it lists what the machine itself found doubtful, and a person has to look at the rest as well.

Not here: the page (report_page), what is measured for the result itself (results).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from anonymotion.chunks import hidden_shares
from anonymotion.errors import OutputError, SettingsError
from anonymotion.flow import source_positions
from anonymotion.report_page import page
from anonymotion.results import HideResult
from anonymotion.target import HiddenFile, check_target, reason

if TYPE_CHECKING:
    from anonymotion.chunks import HiddenChunk
from anonymotion.pipeline import Hider

REPORT_SCHEMA_VERSION = 1
SUFFIXES = (".html", ".json")

NARROW = 0.05
"""A best match this near to its threshold, on either side, could as well have been decided the other way."""

LEAST_AGREEMENT = 0.5
"""Intersection over union of a frame's mask with the mask before it, moved along the flow."""

LARGEST_DROP = 0.5
"""Share of the moved mask's area that may be gone in the next frame."""

_GRID_ROWS = 180  # masks are compared on a grid of about so many rows
_THUMBNAILS = 12  # of frames to review, and as many evenly spaced ones


class Report:
    """Collects while frames are hidden, and appears with them; a context manager, as `HiddenFolder` is.

    path: .html or .json.  thumbnails: show small pictures of the output.  Raises SettingsError for another suffix,
    OutputError if it cannot be written.
    """

    def __init__(self, path: Path, source: Path, hider: Hider, *, force: bool, thumbnails: bool) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise SettingsError(f"report {path.name!r} has the suffix {path.suffix!r}: use .html or .json")
        check_target(path, source, force=force)
        self._thumbnails_wanted = thumbnails
        self._attributes = hider.attributes
        self._replaces = hider.settings.composite == "replace"
        self._thresholds = [hider.settings.threshold[name] for name in hider.attributes]
        self._settings = hider.settings
        self._hidden = array("f")
        self._shares = [array("f") for _ in hider.attributes]
        self._peaks = [array("f") for _ in hider.attributes]
        self._doubts: dict[int, list[str]] = {}
        self._pictures: dict[int, bytes] = {}
        self._step = 1
        self._previous: Tensor | None = None
        self._target = HiddenFile(path, force=force)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._target.discard()

    # ------------------------------------------------------------------ frame by frame

    def write(self, chunk: HiddenChunk) -> None:
        """Take what decided the pixels of a chunk."""
        found = hidden_shares(chunk, self._settings, self._attributes)
        hidden, shares = (share.tolist() for share in found)
        peaks = chunk.saliency.amax(dim=(2, 3)).tolist()
        outside = chunk.edits.outside if chunk.edits is not None else (False,) * len(hidden)
        searched = chunk.searched.tolist()
        for t, agreement in enumerate(self._agreements(chunk)):
            index = len(self._hidden)
            self._hidden.append(hidden[t])
            for number, (share, peak) in enumerate(zip(shares[t], peaks[t], strict=True)):
                # a frame that was not matched itself is shown with the values of the last one that was
                self._shares[number].append(share if searched[t] else self._shares[number][-1])
                self._peaks[number].append(peak if searched[t] else self._peaks[number][-1])
            if self._replaces and not outside[t]:
                self._doubt(index, hidden[t], peaks[t] if searched[t] else None, *agreement)
            if self._thumbnails_wanted:
                self._keep_picture(index, chunk.output[t])

    def _agreements(self, chunk: HiddenChunk) -> list[tuple[float, float]]:
        """(intersection over union with the moved mask, area relative to it) of each frame; 1 where there is none."""
        step = max(1, chunk.alpha.shape[1] // _GRID_ROWS)
        masks = chunk.alpha[:, ::step, ::step] >= 0.5
        flows = chunk.flow[:, :, ::step, ::step] / step
        found = []
        for mask, flow in zip(masks, flows, strict=True):
            agreement = (1.0, 1.0)
            if self._previous is not None:
                x, y = source_positions(flow).round().long()
                height, width = mask.shape
                inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
                moved = self._previous[y.clamp(0, height - 1), x.clamp(0, width - 1)] & inside
                union, area = float((mask | moved).sum()), float(moved.sum())
                if area >= mask.numel() / 1000:
                    agreement = (float((mask & moved).sum()) / union, float(mask.sum()) / area)
            found.append(agreement)
            self._previous = mask
        return found

    def _doubt(self, index: int, hidden: float, peaks: list[float] | None, agreement: float, area: float) -> None:
        """Keep the reasons to look at a frame again; peaks: the best match of each attribute, None if not matched."""
        doubts = []
        if hidden == 0:
            doubts.append("nothing was found, the frame is as it was")
        elif peaks and not any(peak >= threshold for peak, threshold in zip(peaks, self._thresholds, strict=True)):
            doubts.append("nothing was found here: only what was found in frames around it is hidden")
        if area < 1 - LARGEST_DROP:
            doubts.append(f"what is hidden shrank to {area:.0%} of the frame before, moved along the flow")
        elif agreement < LEAST_AGREEMENT:
            doubts.append(f"matching and motion disagree: masks overlap by {agreement:.0%} after moving along the flow")
        for name, peak, threshold in zip(self._attributes, peaks or (), self._thresholds, strict=peaks is not None):
            if abs(peak - threshold) < NARROW:
                side = "only just found" if peak >= threshold else "missed by a little"
                doubts.append(f"{name} was {side}: {peak:.2f}, threshold {threshold:.2f}")
        if doubts:
            self._doubts[index] = doubts

    def _keep_picture(self, index: int, output: Tensor) -> None:
        doubtful = index in self._doubts and sum(i in self._doubts for i in self._pictures) < _THUMBNAILS
        if not doubtful and index % self._step:
            return
        from PIL import Image

        picture = Image.fromarray(output.cpu().numpy())
        picture.thumbnail((240, 240))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=80)
        self._pictures[index] = data.getvalue()
        regular = [i for i in self._pictures if i not in self._doubts]
        if len(regular) > _THUMBNAILS:
            self._step *= 2
            for i in regular:
                if i % self._step:
                    del self._pictures[i]

    # ------------------------------------------------------------------ the end

    def complete(
        self, result: HideResult, video: Path, times_seconds: Sequence[float], source: Path, *, names_source: bool
    ) -> None:
        """Write everything into the hidden file.

        video: the finished output, still hidden.  names_source: say the name and the hash of `source`.
        Raises OutputError.
        """
        document = self._document(result, video, times_seconds, source, names_source=names_source)
        text = json.dumps(document, indent=2) + "\n"
        if self._target.path.suffix.lower() == ".html":
            text = page(document)
        try:
            self._target.partial.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"report {self._target.path} cannot be written ({reason(error)})") from error

    def _document(
        self, result: HideResult, video: Path, times_seconds: Sequence[float], source: Path, *, names_source: bool
    ) -> dict[str, Any]:
        content = result.as_json()
        content["schema_version"] = REPORT_SCHEMA_VERSION
        content["output"] = {"name": Path(result.output).name, "sha256": digest(video)}
        content["notes"] = [_without_names(note, source) for note in result.notes]
        if names_source:
            content["source"] = {"name": source.name, "sha256": digest(source)}
        content["frames_to_review"] = [
            {"frame": index, "time_seconds": round(times_seconds[index], 3), "reasons": reasons}
            for index, reasons in sorted(self._reviewed().items())
        ]
        content["over_time"] = {
            "time_seconds": [round(time, 3) for time in times_seconds],
            "hidden_share": _rounded(self._hidden),
            "attribute_share": dict(zip(self._attributes, map(_rounded, self._shares), strict=True)),
            "best_match": dict(zip(self._attributes, map(_rounded, self._peaks), strict=True)),
        }
        if self._thumbnails_wanted:
            content["thumbnails"] = {
                str(index): "data:image/jpeg;base64," + base64.b64encode(data).decode()
                for index, data in sorted(self._pictures.items())
            }
        return content

    def _reviewed(self) -> dict[int, list[str]]:
        """The doubts, and frames without an attribute that most others have."""
        reviewed = {index: list(reasons) for index, reasons in self._doubts.items()}
        frames = len(self._hidden)
        for name, shares in zip(self._attributes, self._shares, strict=True):
            missing = [index for index, share in enumerate(shares) if share == 0]
            if self._replaces and 0 < len(missing) <= frames / 2:
                for index in missing:
                    reviewed.setdefault(index, []).append(
                        f"{name} was not found here, but in {frames - len(missing)} of {frames} frames"
                    )
        return reviewed

    def finish(self) -> Path:
        """See `HiddenFile.finish`."""
        return self._target.finish()

    def commit(self) -> None:
        """See `HiddenFile.commit`."""
        self._target.commit()

    def retract(self) -> None:
        """See `HiddenFile.retract`."""
        self._target.retract()


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _without_names(note: str, source: Path) -> str:
    """Notes may name the input or a picture of it."""
    note = note.replace(source.name, "the input")
    return re.sub(r"\S+\.(png|jpe?g|bmp|tiff?|webp)\b", "a picture", note, flags=re.IGNORECASE)


def digest(path: Path) -> str:
    """SHA-256 of a file in hex; of a folder: of the lines `SHA-256  NAME` of its files, sorted by name."""
    if path.is_dir():
        lines = [f"{digest(file)}  {file.name}\n" for file in sorted(path.iterdir()) if file.is_file()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
