"""What is not hidden: `python benchmarks/not_hidden.py --out DIR [--clips CLIP...] [--copies DIR] [--sound CLIP]`.

`--clips`: outline, presence and motion of somebody hidden by preset strict, as the encoded output shows them; clips
are prepared as by attacks.py, whose DIR can be used.  `--copies`: the same of whole people, and who they are by their
outline alone, on copies of Weizmann that `data obfuscate weizmann PATH --out DIR --variants
source,strict,iid,person-mask` made; actions that are not finished there are left out, and said.  `--sound`: what became
of the sound.

Not here: measures (attacking/visible.py), what is recovered under the mask (attacks.py).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import av
import cv2
import numpy as np
from attacking import visible
from attacking.clips import concealment_of, flows, name_of, prepared, scene_of, whole_frame
from attacking.faces import interval

from anonymotion import hide_video, video
from anonymotion.attacks.outline import overlap
from anonymotion.presets import settings_for
from anonymotion.run import FileOptions

NOISES = {"strict": "accumulated", "new noise per frame": "iid"}
COPIES = {"strict": "strict", "iid": "new noise per frame"}
Outlines = dict[tuple[str, str], np.ndarray]  # (person, action) -> (T, H, W) bool
Split = Callable[[Outlines, Outlines], tuple[int, int, float]]
HEAD = "frames | hidden | outline IoU | seen in | motion, pixels | motion, region"


def table(first: str, head: str) -> None:
    """The head of a table."""
    columns = f"{first} | {head}"
    print(f"\n| {columns} |\n|{'---|' * (columns.count('|') + 1)}", flush=True)


def seen_flow(frames: np.ndarray) -> np.ndarray:
    """Flow as `visible` wants it: that of the first frame is 0."""
    return np.concatenate((np.zeros((1, 2, *frames.shape[1:3]), np.float32), flows(frames)))


@dataclass(frozen=True)
class Seen:
    """What one hidden clip shows; there: in how many frames somebody is, found: and is seen."""

    frames: int
    hidden: float
    overlap: float
    there: int
    found: int
    pixels: float
    region: float

    @classmethod
    def of(cls, hidden: np.ndarray, noise: str, somebody: np.ndarray, true_flow: np.ndarray) -> tuple[Seen, np.ndarray]:
        """Compare an encoded clip, (T, H, W, 3) uint8, with where somebody is; also gives the outlines."""
        settings = settings_for("strict", noise=noise)
        outlines = visible.outline_of(hidden, settings)
        pixels, region = visible.motion_agreement(seen_flow(hidden), true_flow, somebody)
        there = somebody.any((1, 2))
        found = int((visible.sees_somebody(outlines, settings) & there).sum())
        return cls(
            len(hidden), float(somebody.mean()), overlap(outlines, somebody), int(there.sum()), found, pixels, region
        ), outlines

    def row(self) -> str:
        """The columns of HEAD."""
        seen = f"{self.overlap:.2f} | {self.found}/{self.there} | {self.pixels:.2f} | {self.region:.2f}"
        return f"{self.frames} | {self.hidden:.0%} | {seen}"


def clip_rows(clip: Path, arguments: argparse.Namespace) -> tuple[int, int]:
    """A row per way of making noise; in how many frames of the original somebody is seen by mistake, of how many."""
    kept = prepared(clip, arguments, {})
    scene = scene_of(kept, whole_frame(kept), "strict")
    for name, noise in NOISES.items():
        concealment = replace(concealment_of("strict"), settings=settings_for("strict", noise=noise))
        hidden = concealment.encoded(concealment.hide(scene.original, scene, concealment.noise(scene)))
        seen, _ = Seen.of(hidden, noise, scene.alpha >= 0.5, kept["backward"])
        print(f"| {name_of(clip)}, {name} | {seen.row()} |", flush=True)
    settings = settings_for("strict")
    mistaken = visible.sees_somebody(visible.outline_of(scene.original, settings), settings)
    return int(mistaken.sum()), len(mistaken)


def pictures_of(folder: Path) -> np.ndarray:
    """All frames of a video of a copy, (T, H, W, 3) uint8."""
    with video.open_source(folder) as source:
        return np.stack([frame.image for frame in source])


@dataclass
class People:
    """What the copies show: per kind of noise what is seen, and outlines by (person, action), clean and hidden."""

    seen: dict[str, list[Seen]] = field(default_factory=lambda: {kind: [] for kind in COPIES})
    clean: Outlines = field(default_factory=dict)
    hidden: Outlines = field(default_factory=dict)

    def add(self, copies: Path, action: str, person: str) -> None:
        """Look at one video."""

        def frames(kind: str) -> np.ndarray:
            return pictures_of(copies / kind / "frames" / action / f"{person}_{action}")

        silhouettes, true_flow = frames("person-mask")[..., 0] > 127, seen_flow(frames("source"))
        self.clean[person, action] = silhouettes
        for kind, name in COPIES.items():
            encoded = concealment_of("strict").encoded(frames(kind))
            seen, outlines = Seen.of(encoded, NOISES[name], silhouettes, true_flow)
            self.seen[kind].append(seen)
            if kind == "strict":
                self.hidden[person, action] = outlines

    def rows(self) -> Iterator[str]:
        """A row per kind of noise, means over videos."""
        for kind, seen in self.seen.items():
            mean = {name: np.mean([getattr(one, name) for one in seen]) for name in ("overlap", "pixels", "region")}
            whole = Seen(
                sum(one.frames for one in seen),
                float(np.mean([one.hidden for one in seen])),
                there=sum(one.there for one in seen),
                found=sum(one.found for one in seen),
                **{name: float(value) for name, value in mean.items()},
            )
            yield f"| {len(seen)} videos, {COPIES[kind]} | {whole.row()} |"


def people_tables(copies: Path) -> None:
    """What is seen of whole people, and who they are."""
    kinds = ("source", "person-mask", *COPIES)
    finished = [{path.name for path in (copies / kind / "frames").iterdir()} for kind in kinds]
    ready, people = sorted(set.intersection(*finished)), People()
    videos = {action: sorted((copies / "source/frames" / action).iterdir()) for action in ready}
    most = max(map(len, videos.values()))
    for action in [action for action in ready if len(videos[action]) < most]:
        print(f"{action} is not finished in the copies: left out")
        del videos[action]
    for action, folders in videos.items():
        for folder in folders:
            people.add(copies, action, folder.name.removesuffix(f"_{action}"))
    table("of", HEAD)
    print("\n".join(people.rows()))
    table("gallery", "probe | told apart by | rank 1 | 95 % interval | chance")
    for known, asked in (("clean", "clean"), ("clean", "hidden"), ("hidden", "hidden")):
        for name, split in (("the second half of each video", halves), ("other actions", other_actions)):
            hits, of, chance = split(getattr(people, known), getattr(people, asked))
            low, high = interval(hits, of)
            print(f"| {known} | {asked} | {name} | {hits}/{of} | {low:.2f} to {high:.2f} | {chance:.2f} |")


def halves(known: Outlines, asked: Outlines) -> tuple[int, int, float]:
    """Rank-1 hits, probes, chance: the second half of each video among the first halves of the same action."""
    hits = of = 0
    people = sorted({person for person, _ in known})
    for action in sorted({action for _, action in known}):
        first = {p: visible.gait_picture(known[p, action][: len(known[p, action]) // 2]) for p in people}
        gallery = {p: picture for p, picture in first.items() if picture is not None}
        for person in gallery:
            probe = visible.gait_picture(asked[person, action][len(asked[person, action]) // 2 :])
            of += 1
            hits += probe is not None and list(gallery)[visible.nearest(probe, list(gallery.values()))] == person
    return hits, of, 1 / len(people)


def other_actions(known: Outlines, asked: Outlines) -> tuple[int, int, float]:
    """Rank-1 hits, probes, chance: each video among all videos of other actions."""
    hits = of = 0
    pictures = {key: visible.gait_picture(outlines) for key, outlines in known.items()}
    for (person, action), outlines in asked.items():
        gallery = {key: picture for key, picture in pictures.items() if key[1] != action and picture is not None}
        probe = visible.gait_picture(outlines)
        of += 1
        hits += probe is not None and list(gallery)[visible.nearest(probe, list(gallery.values()))][0] == person
    return hits, of, 1 / len({person for person, _ in known})


def sounds(path: Path) -> list[tuple[str, bytes, np.ndarray]]:
    """Codec, all packets, and samples of every audio stream."""
    found = []
    with av.open(str(path)) as container:
        for number, stream in enumerate(container.streams.audio):
            packets = b"".join(bytes(packet) for packet in container.demux(stream))
            container.seek(0)
            samples = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=number)])
            found.append((stream.codec_context.name, packets, samples))
            container.seek(0)
    return found


def sound_rows(clip: Path) -> None:
    """A row per audio stream: the same bytes, and how alike it sounds."""
    table("audio", "stream | codec | packets | the same bytes | correlation of samples")
    before = sounds(clip)
    with tempfile.TemporaryDirectory() as folder:
        for audio in ("copy", "drop"):
            hidden = Path(folder) / f"{audio}{clip.suffix}"
            # what covers the pictures makes no difference to the sound: the fastest
            hide_video(clip, hidden, method="black", files=FileOptions(audio=audio))
            after = sounds(hidden)
            if not after:
                print(f"| {audio} | none of {len(before)} | | | | |")
            for number, (one, other) in enumerate(zip(before, after, strict=False)):
                alike = visible.correlation(one[2], other[2])
                print(
                    f"| {audio} | {number} | {other[0]} | {len(other[1])} bytes | {one[1] == other[1]} | {alike:.4f} |"
                )


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="prepared clips are kept here")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], metavar="CLIP")
    parser.add_argument("--copies", type=Path, metavar="DIR", help="copies of Weizmann")
    parser.add_argument("--sound", type=Path, metavar="CLIP")
    parser.add_argument("--attributes", default="face,hair")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="DIR/CLIP as hide --export-masks wrote it, if there")
    parser.add_argument("--first", type=int, default=0, help="first frame of each clip")
    parser.add_argument("--frames", type=int, default=120, help="frames of each clip")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    if arguments.clips:
        table("clip", HEAD)
        mistaken = [clip_rows(clip, arguments) for clip in arguments.clips]
        print(f"\nseen by mistake in {sum(m for m, _ in mistaken)} of {sum(of for _, of in mistaken)} clean frames")
    if arguments.copies:
        people_tables(arguments.copies)
    if arguments.sound:
        sound_rows(arguments.sound)


if __name__ == "__main__":
    main()
