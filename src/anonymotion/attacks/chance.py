"""What an attack gives by chance: the same mask and flow over unrelated content, hidden anew with noise of its own.

The content is a picture of the library that moves as the scene does; outside of the mask the original stays.  So
whatever mask, flow or surroundings give away is in the null distribution too, and a score beyond it comes from what
the mask covers.

Only the crop is hidden and encoded, not the whole frame: the crop lies on the grid of a codec's blocks, and a
constant rate factor spends bits by block, so that this is near to what a whole frame would give.

Not here: scores (scores), the attacks (recovery).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from anonymotion import video
from anonymotion.attacks.evidence import Pictures, Scene, View, grey
from anonymotion.compositor import composite
from anonymotion.errors import SettingsError
from anonymotion.methods import load_method
from anonymotion.noise import make_noise
from anonymotion.presets import Settings
from anonymotion.templates import TemplateLibrary

OTHER_CLIPS = 8
_CHUNK = 8
_PAPER_SHORT_SIDE = 224


class Unrelated:
    """Content that has nothing to do with a scene: crops of the library's pictures, mirrored, scaled and moved."""

    def __init__(self, seed: int) -> None:
        self._pictures = [picture.read() for picture in TemplateLibrary.load().pictures.values()]
        self._random = np.random.default_rng(seed)

    def still(self, size_hw: tuple[int, int]) -> Pictures:
        """A random crop as (h, w, 3) uint8."""
        import cv2

        picture = self._pictures[self._random.integers(len(self._pictures))]
        height, width = size_hw
        share = self._random.uniform(0.35, 1.0)
        scale = share * min(picture.shape[0] / height, picture.shape[1] / width)
        cut_hw = (max(1, int(height * scale)), max(1, int(width * scale)))
        y, x = (int(self._random.integers(picture.shape[axis] - cut_hw[axis] + 1)) for axis in (0, 1))
        crop = picture[y : y + cut_hw[0], x : x + cut_hw[1]]
        if self._random.random() < 0.5:
            crop = crop[:, ::-1]
        how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=how), np.uint8)

    def under_the_mask(self, scene: Scene) -> Pictures:
        """The scene with other content wherever it is hidden at all: (T, h, w, 3) uint8."""
        height, width = scene.original.shape[1:3]
        moving = scene.tracks.moved(self.still((height, width)))
        return np.where((scene.alpha > 0)[..., None], moving, scene.original)


@dataclass(frozen=True)
class Concealment:
    """How a clip was hidden, and how it was encoded, so that unrelated content can be treated alike.

    suffix: of the encoded file, None for pictures without loss.  quality: the encoder's, None for its default.
    seed_is_known: the adversary has the noise of each output.
    """

    settings: Settings
    frame_rate: Fraction = Fraction(25)
    suffix: str | None = None
    quality: int | None = None
    seed_is_known: bool = False

    @property
    def uses_noise(self) -> bool:
        """Whether it is our method: other methods have no noise to be known."""
        return self.settings.method == "noise"

    def noise(self, scene: Scene, seed: int | None = None) -> NDArray[np.float32]:
        """(T, h, w, 3) float32 in 0..255: new noise on the crop, moved along the scene's flow."""
        height, width = scene.alpha.shape[1:]
        field = make_noise(
            self.settings.noise,
            (height, width),
            mean=self.settings.noise_mean,
            std=self.settings.noise_std,
            device=torch.device("cpu"),
            seed=seed,
            grain=self.settings.grain_px(scene.frame_hw),
        )
        return np.asarray(field.chunk(torch.from_numpy(scene.backward)).numpy())

    def hide(self, frames: Pictures, scene: Scene, noise: NDArray[np.float32] | None) -> Pictures:
        """`frames`, (T, h, w, 3) uint8, hidden as the scene was, before encoding."""
        hidden = []
        for start in range(0, len(frames), _CHUNK):
            part = slice(start, start + _CHUNK)
            chunk, alpha = torch.from_numpy(np.ascontiguousarray(frames[part])), torch.from_numpy(scene.alpha[part])
            instead = self._replacement(chunk, alpha, scene) if noise is None else torch.from_numpy(noise[part])
            hidden.append(composite(chunk, alpha, instead).numpy())
        return np.concatenate(hidden)

    def _replacement(self, chunk: torch.Tensor, alpha: torch.Tensor, scene: Scene) -> torch.Tensor:
        """What a comparison method puts there; its blocks and kernels belong to the whole frame."""
        method = load_method(self.settings.method)
        if method is None:
            raise SettingsError("our method needs noise: none was given")
        if self.settings.at_native or min(scene.frame_hw) == _PAPER_SHORT_SIDE or not method.has_scale:
            return method.replacement(chunk, alpha, True)
        box, (height, width) = scene.box, scene.frame_hw
        canvas = torch.full((len(chunk), height, width, 3), 128, dtype=torch.uint8)
        canvas[:, box.y0 : box.y1, box.x0 : box.x1] = chunk
        weight = torch.zeros(len(chunk), height, width)
        weight[:, box.y0 : box.y1, box.x0 : box.x1] = alpha
        whole = method.replacement(canvas, weight, False)
        return whole[:, box.y0 : box.y1, box.x0 : box.x1].contiguous()

    def encoded(self, pictures: Pictures) -> Pictures:
        """What is left of (T, h, w, 3) uint8 after encoder and decoder.

        The file lies in a folder of its own that only its owner can read, for a moment; it shows what the output
        shows, and unrelated content.
        """
        if self.suffix is None:
            return pictures
        height, width = pictures.shape[1:3]
        info = video.VideoInfo(
            width=width,
            height=height,
            frame_rate=self.frame_rate,
            time_base=1 / self.frame_rate,
            frame_count=len(pictures),
            pixel_format="yuv420p",
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"chance{self.suffix}"
            with video.open_sink(path, info, source=None, quality=self.quality) as sink:
                for index, image in enumerate(pictures):
                    sink.write(image, video.Frame(index, image, index, info.time_base, 1))
                sink.commit()
            with video.open_source(path) as source:
                return np.stack([frame.image for frame in source])

    def view(self, scene: Scene, hidden: Pictures, noise: NDArray[np.float32] | None, content: Unrelated) -> View:
        """What an adversary sees and takes for the noise.

        hidden: as it is seen.  noise: (h, w, 3), of the reference frame, if the adversary has it; otherwise a guess.
        """
        if not self.uses_noise:
            return View(scene, hidden)
        if noise is None:
            noise = self.noise(scene)[scene.reference]
        reference = scene.reference
        alpha = torch.from_numpy(scene.alpha[reference])[None]
        size_hw = (alpha.shape[1], alpha.shape[2])
        others = [
            composite(torch.from_numpy(content.still(size_hw))[None], alpha, torch.from_numpy(noise)[None])[0].numpy()
            for _ in range(OTHER_CLIPS)
        ]
        return View(scene, hidden, noise, grey(np.stack(others)))

    def by_chance(self, scene: Scene, content: Unrelated, count: int) -> Iterator[tuple[View, View | None, Pictures]]:
        """`count` outputs of unrelated content: as seen before encoding and after (None without), and the content."""
        for _ in range(count):
            frames = content.under_the_mask(scene)
            noise = self.noise(scene) if self.uses_noise else None
            hidden = self.hide(frames, scene, noise)
            known = noise[scene.reference] if noise is not None and self.seed_is_known else None
            before = self.view(scene, hidden, known, content)
            after = None
            if self.suffix is not None:
                after = View(scene, self.encoded(hidden), before.noise, before.others)
            yield before, after, frames
