"""From a file to a file: read, hide, write, and let the output appear only if everything went well.

Not here: what happens to a frame (pipeline), containers and codecs (video), what is printed (cli).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anonymotion import video
from anonymotion.device import fetched
from anonymotion.editing import GivenBack
from anonymotion.errors import AnonymotionError, NothingMatchedError, SettingsError
from anonymotion.exports import DUMP_FILES, HEAT_MAP_FILES, ChunkWriter, DumpWriter, MaskWriter, save_picture
from anonymotion.inversion import InversionScore
from anonymotion.own_masks import MaskFolder
from anonymotion.pipeline import Hider
from anonymotion.policy import Policy
from anonymotion.presets import PRESETS
from anonymotion.registry import BACKBONES
from anonymotion.report import Report
from anonymotion.results import (
    Coverage,
    HideResult,
    Progress,
    ProgressCallback,
    SaliencyResult,
    library_versions,
)
from anonymotion.scheduler import ahead
from anonymotion.target import HiddenFolder, commit_all

DECODED_AHEAD = 4
"""Frames that wait to be looked at."""

VOICES = "The audio was kept: voices identify people (--audio drop leaves it out)."
UNTRIED = (
    "The thresholds of preset strict were chosen for the embedded backbone, not for this one: look at the heat maps of "
    "`anonymotion saliency`, and at every frame of the output."
)


@dataclass(frozen=True)
class FileOptions:
    """How files are read and written; nothing here changes what is hidden.

    audio: `copy` keeps the audio packets as they are, `drop` leaves them out.  quality: the encoder's constant
    rate factor, None for the default.  frame_rate: of a folder of pictures.  force: replace an existing
    output.  allow_truncated: accept an input with less in it than it promises.  allow_empty: write the output
    although nothing matched.  masks, dump: folders to write beside the video.  report: an audit report, .html or
    .json, with small pictures of the output (report_thumbnails) and name and hash of the source (report_source).
    """

    audio: Literal["copy", "drop"] = "copy"
    quality: int | None = None
    frame_rate: Fraction | float = Fraction(25)
    force: bool = False
    allow_truncated: bool = False
    allow_empty: bool = False
    masks: Path | None = None
    dump: Path | None = None
    report: Path | None = None
    report_thumbnails: bool = False
    report_source: bool = False

    def __post_init__(self) -> None:
        for name in ("masks", "dump", "report"):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, Path(getattr(self, name)))
        if self.audio not in ("copy", "drop"):
            raise SettingsError(f"audio {self.audio!r} is not known: use copy or drop")
        if not Fraction(1, 1000) <= self.frame_rate <= 1000:
            raise SettingsError(f"frame rate {str(self.frame_rate)[:40]} is not in 0.001..1000 frames per second")

    def open(self, source: Path) -> video.Source:
        """Open the input as these options say."""
        rate = Fraction(str(self.frame_rate))  # 29.97 is meant as written, not as its nearest binary fraction
        return video.open_source(source, frame_rate=rate, allow_truncated=self.allow_truncated)

    def check_places(self, source: Path, output: Path, own_masks: Path | None = None) -> None:
        """Raise SettingsError unless source, output, masks and dump are usable paths, none in another's place.

        A folder that is replaced (`force`) must not hold what is read, nor anything else that is written.
        """
        named = {"the input": source, "the output": output, "--export-masks": self.masks, "--dump": self.dump}
        named.update({"--report": self.report, "--masks": own_masks})
        places = {what: _resolved(path) for what, path in named.items() if path is not None}
        for what, place in places.items():
            for other, container in places.items():
                inside = container == place or (container in place.parents and other not in ("the input", "--masks"))
                if what != other and inside:
                    raise SettingsError(f"{what} ({place.name}) is or lies in {other}: give each a place of its own")


def _resolved(path: Path) -> Path:
    """The absolute path behind links; SettingsError for a name that no file system takes, or a loop of links."""
    try:
        path.exists()
        place = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise SettingsError(f"path {str(path)[:80]!r} cannot be used ({reason}): choose another") from error
    if not place.name:
        raise SettingsError(f"path {str(path)!r} is not a file or folder of its own: choose another")
    return place


def hide_video(
    source: str | Path,
    output: str | Path,
    attributes: list[str] | str | None = None,
    preset: str | None = None,
    *,
    policy: Policy | None = None,
    files: FileOptions | None = None,
    progress: ProgressCallback | None = None,
    watch: ChunkWriter | None = None,
    **options: Any,
) -> HideResult:
    """Hide `attributes` in the video, GIF, picture or folder of pictures `source`; write `output`.

    Without `attributes`, here or in `policy`, a comparison method (`method=`) covers the whole frame, or the person;
    a policy may also have shapes or masks of one's own to hide.  What is given here counts before the policy's.
    `options` are those of `Hider`: device, seed, library, weights files, and any field of `Settings`.
    `watch` is given every chunk, clean frames and all: whoever watches must not keep those.
    Raises an AnonymotionError, and then leaves nothing at `output`; NothingMatchedError if no pixel of any
    frame was selected by a replacing preset (unless `files.allow_empty`).
    """
    source, output = Path(source), Path(output)
    files, policy = files or FileOptions(), policy or Policy()
    files.check_places(source, output, policy.masks)
    started = time.perf_counter()
    with ExitStack() as stack:
        # Files first: a mistyped path should not wait for a network to load.
        reader = stack.enter_context(files.open(source))
        if policy.masks is not None:
            _check_masks(policy.masks, reader, files)
        sink = stack.enter_context(
            video.open_sink(
                output,
                reader.info,
                source=source,
                audio=files.audio,
                quality=files.quality,
                force=files.force,
            )
        )
        masks = dump = None
        if files.masks is not None:
            masks = stack.enter_context(HiddenFolder(files.masks, force=files.force))
        if files.dump is not None:
            dump = stack.enter_context(HiddenFolder(files.dump, DUMP_FILES, force=files.force, private=True))
        loading = time.perf_counter()
        hider = Hider(attributes, preset, policy=policy, **options)
        hider.stopwatch.seconds["load"] = time.perf_counter() - loading
        report = None
        if files.report is not None:
            report = Report(files.report, source, hider, force=files.force, thumbnails=files.report_thumbnails)
        inversion = InversionScore()
        extras: list[ChunkWriter] = [inversion] if hider.settings.composite == "blend" else []
        if watch is not None:
            extras.append(watch)
        if masks is not None:
            extras.append(MaskWriter(masks))
        if dump is not None:
            extras.append(DumpWriter(dump, hider.attributes, hider.settings))
        if report is not None:
            extras.append(stack.enter_context(report))
        # A block mean or black may well be what was there; noise cannot.
        is_noise = hider.settings.composite == "replace" and hider.settings.method == "noise"
        writer = video.HiddenWriter(sink, reader.info, must_differ=is_noise)
        coverage, given_back = _hide_frames(hider, reader, writer, extras, progress)
        if coverage.largest == 0 and not files.allow_empty:
            error = _nothing_hidden(hider, coverage, given_back)
            if error is not None:
                raise error
        with hider.stopwatch("verify"):
            finished = writer.verify()
        audio = "none" if not reader.info.audio else "copy" if sink.keeps_audio else "drop"
        notes = (*reader.notes, *sink.notes, *_warnings(hider, audio), *given_back.warnings(hider.policy))
        seconds = {**hider.stopwatch.seconds, "total": time.perf_counter() - started}
        result = _result(hider, output, files, coverage, given_back, audio, notes, seconds, inversion.sentence)
        if report is not None:
            report.complete(result, finished, writer.times_seconds, source, names_source=files.report_source)
        commit_all([part for part in (masks, dump, report, sink) if part is not None])
    return result


def _hide_frames(
    hider: Hider,
    reader: video.Source,
    writer: video.HiddenWriter,
    extras: list[ChunkWriter],
    progress: ProgressCallback | None,
) -> tuple[Coverage, GivenBack]:
    """Every frame from `reader` through `hider` to `writer`, with its mask; how much was hidden, and given back."""
    coverage, given_back = Coverage(hider.attributes), GivenBack()
    pending: deque[video.Frame] = deque()
    moments: deque[tuple[Fraction, Fraction]] = deque()
    decoded, times = hider.stopwatch.iterate("decode", iter(reader)), None
    if hider.policy.needs_times:
        decoded, times = _timed(decoded, moments, reader.info.frame_rate), iter(moments.popleft, None)
    with (
        ahead(_recorded(decoded, pending), "decode", DECODED_AHEAD) as shown,
        closing(hider.explain(shown, times, overlap=True)) as chunks,
    ):
        for chunk in chunks:
            for extra in extras:
                extra.write(chunk)
            hider.measure(chunk, coverage)
            if chunk.edits is not None:
                given_back.add(chunk.edits)
            with hider.stopwatch("encode"):
                images, masks = (tensor.numpy() for tensor in fetched(chunk.output, chunk.alpha))
                for image, mask in zip(images, masks, strict=True):
                    writer.write(image, pending.popleft(), mask)
            if progress is not None:
                progress(Progress(coverage.frames, reader.info.frame_count))
            del chunk  # it is large, and the next one may be long in coming
    return coverage, given_back


def _check_masks(folder: Path, reader: video.Source, files: FileOptions) -> None:
    """Raise InputError if one's own masks cannot fit the input; what can be said before any frame is read."""
    masks = MaskFolder(folder)
    if reader.info.frame_count is not None and not files.allow_truncated:
        masks.check_count(reader.info.frame_count)
    masks.read(0, (reader.info.height, reader.info.width))


def _nothing_hidden(hider: Hider, coverage: Coverage, given_back: GivenBack) -> AnonymotionError | None:
    """Why no pixel of any frame was hidden, as an error; None for a blend, which has no pixel that it hides whole."""
    outside = given_back.frames_outside_spans
    if outside and outside == coverage.frames:
        spans = ", ".join(map(str, hider.policy.spans))
        return SettingsError(
            f"none of the {outside} frames lies in the spans {spans}: give others; nothing was written"
        )
    if hider.settings.composite != "replace":
        return None
    inside = f"{coverage.frames - outside} frames" + (" inside the spans" if outside else "")
    if given_back.frames_kept or given_back.frames_excluded:
        return NothingMatchedError(
            f"all that was found in {inside} was to be kept visible or lies in excluded shapes, so nothing was "
            "written: keep or exclude less, or pass --allow-empty to write it as it is"
        )
    what = " and ".join(hider.attributes) or "masks and shapes"
    return NothingMatchedError(
        f"{what} matched nothing in {inside}, so nothing was written: choose other attributes, lower --threshold, or "
        "pass --allow-empty to write it as it is"
    )


def _timed(
    frames: Iterator[video.Frame], moments: deque[tuple[Fraction, Fraction]], rate: Fraction | None
) -> Iterator[video.Frame]:
    """The same frames; when each appears and goes is put into `moments`, in seconds after the first one appears.

    A frame that does not say how long it is shown, or says less than the mean, is taken to last as long as the mean:
    it is hidden if any of that lies in a span.
    """
    start: Fraction | None = None
    for frame in frames:
        begin = frame.pts * frame.time_base
        start = begin if start is None else start
        said = Fraction(0) if frame.duration is None else frame.duration * frame.time_base
        moments.append((begin - start, begin - start + max(said, 1 / rate if rate else said)))
        yield frame


def saliency_video(
    source: str | Path,
    output: str | Path,
    attributes: list[str] | str,
    preset: str = "strict",
    *,
    files: FileOptions | None = None,
    progress: ProgressCallback | None = None,
    **options: Any,
) -> SaliencyResult:
    """Show where `attributes` are found: a heat map per attribute and frame (Figure 4).

    With a video or picture suffix, `output` shows the input and all heat maps side by side; a folder gets
    `ATTRIBUTE_%06d.png`, each of the input's size.  These pictures show the input: they are not for release.
    Raises as `hide_video` does.
    """
    from PIL import Image

    from anonymotion import overlays

    source, output = Path(source), Path(output)
    files = files or FileOptions()
    files.check_places(source, output)
    with ExitStack() as stack:
        reader = stack.enter_context(files.open(source))
        folder = sink = None
        if not output.suffix or output.is_dir():
            folder = stack.enter_context(HiddenFolder(output, HEAT_MAP_FILES, force=files.force))
        hider = Hider(attributes, preset, **options)
        pending: deque[video.Frame] = deque()
        panel_height = min(reader.info.height, 270)
        panel_wh = (max(64, round(panel_height * reader.info.width / reader.info.height)), panel_height)
        frames = 0
        for image, planes in hider.saliency(_recorded(iter(reader), pending)):
            frame = pending.popleft()
            if folder is not None:
                for name, plane in zip(hider.attributes, planes, strict=True):
                    picture = Image.fromarray(overlays.heat_map(image, plane))
                    save_picture(picture, folder.partial / f"{name}_{frames:06d}.png")
            else:
                mosaic = overlays.saliency_mosaic(image, planes, hider.attributes, panel_wh)
                if sink is None:
                    info = replace(
                        reader.info, width=mosaic.shape[1], height=mosaic.shape[0], sample_aspect_ratio=Fraction(1)
                    )
                    sink = stack.enter_context(
                        video.open_sink(output, info, source=source, audio="drop", force=files.force)
                    )
                sink.write(mosaic, frame)
            frames += 1
            if progress is not None:
                progress(Progress(frames, reader.info.frame_count, "saliency"))
        for target in (folder, sink):
            if target is not None:
                target.commit()
    backbone = hider.networks["backbone"]["name"]
    return SaliencyResult(str(output), frames, hider.attributes, backbone, hider.settings.as_json())


def _warnings(hider: Hider, audio: str) -> list[str]:
    """What a user should know of a run that went well."""
    chosen_for_another = hider.backbone is not None and BACKBONES[hider.backbone.name].embedded_file is None
    by_threshold = hider.settings.composite == "replace"
    return [*([VOICES] if audio == "copy" else []), *([UNTRIED] if chosen_for_another and by_threshold else [])]


def _recorded(frames: Iterator[video.Frame], pending: deque[video.Frame]) -> Generator[np.ndarray, None, None]:
    """The images of `frames`; each frame is put into `pending`, so that its time is there when it is written."""
    for frame in frames:
        pending.append(frame)
        yield frame.image


def _result(
    hider: Hider,
    output: Path,
    files: FileOptions,
    coverage: Coverage,
    given_back: GivenBack,
    audio: str,
    notes: tuple[str, ...],
    seconds: dict[str, float],
    inversion: str | None,
) -> HideResult:
    reasons = []
    if hider.method is not None and hider.method.weakness is not None:
        reasons.append(hider.method.weakness)
    if hider.method is None and hider.seed is not None:
        reasons.append("the noise was made with --seed: whoever knows the seed knows the noise")
    if hider.settings.composite == "blend":
        reasons.append("a soft blend (eq. 5) leaves a faded copy of what it covers; use --preset strict for release")
        reasons += [inversion] if inversion is not None else []
    if files.dump is not None:
        reasons.append("the dump holds clean frames: it must not be published with the output")
    if files.allow_empty and coverage.largest == 0:
        reasons.append("nothing matched: the output is the input")
    changed = {
        name: value
        for name, value in hider.settings.as_json().items()
        if value != PRESETS[hider.settings.preset].as_json()[name]
    }
    return HideResult(
        output=str(output),
        frames=coverage.frames,
        attributes=hider.attributes,
        settings={**hider.settings.as_json(), "changed_from_preset": changed},
        **hider.networks,
        mask=hider.mask_source,
        device={"name": hider.device.name, "reason": hider.device.reason},
        coverage=coverage.as_json(),
        audio=audio,
        not_for_release=tuple(reasons),
        notes=notes,
        seconds=seconds,
        versions=library_versions(),
        policy={**hider.policy.as_json(), "given_back": given_back.as_json()} if hider.policy.stated else {},
    )
