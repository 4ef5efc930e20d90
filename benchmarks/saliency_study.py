"""What each attribute answers to: heat maps, a grid of layers and facets, and how attributes overlap.

    python benchmarks/saliency_study.py maps  PERSON... -o maps.png      nine attributes, a row per person (Figure 4)
    python benchmarks/saliency_study.py grid  PERSON    -o grid.png      a row per layer and facet
    python benchmarks/saliency_study.py overlap PERSON... -o overlap.png the paper's "more results on the overlap"
    python benchmarks/saliency_study.py ranks                            which layer and facet serves which attribute

PERSON is a picture, or a video with a frame number: clip.mp4@12.  Saliency is that of `--preset paper-debiased` with
all exemplars (max), each attribute by itself: no rivals, no thresholds.  `ranks` needs no pictures but the library's:
each template is scored by those of other people, against other attributes and background; the figure is the area
under the ROC curve, 0.5 for chance.  Sheets show the pictures: they are not for release.

Not here: masks and their coverage (coverage.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from anonymotion import overlays, video
from anonymotion.backbone import Backbone
from anonymotion.registry import ATTRIBUTES, FACETS, FeatureSpec
from anonymotion.saliency import saliency_planes
from anonymotion.template_bank import TemplateBank, compute_vectors
from anonymotion.templates import TemplateLibrary

NAME = "dinov2-vits14-embedded"
PANEL_WH = (120, 104)


def read(person: str) -> np.ndarray:
    """The picture, or the frame after @, as (H, W, 3) uint8 RGB."""
    path, _, number = person.partition("@")
    with video.open_source(Path(path)) as source:
        for index, frame in enumerate(source):
            if index == int(number or 0):
                return frame.image
    raise SystemExit(f"{path} has no frame {number}")


def banks(library: TemplateLibrary, backbone: Backbone, specs: list[FeatureSpec]) -> dict[FeatureSpec, TemplateBank]:
    """All positive templates of the nine attributes, de-biased, for each spec; one pass per library picture."""
    keep = [i for i, t in enumerate(library.templates) if not t.negative and t.attribute in ATTRIBUTES]
    index = torch.tensor([ATTRIBUTES.index(library.templates[i].attribute) for i in keep])
    return {
        spec: TemplateBank(spec, ATTRIBUTES, found["templates"][keep], index, found["mean"])
        for spec, found in compute_vectors(library, backbone, specs).items()
    }


def specs_of(layers: list[int], facets: list[str], short_side: int) -> list[FeatureSpec]:
    """De-biased specs of the embedded backbone."""
    return [FeatureSpec(NAME, layer, facet, 14, short_side, "library-2") for layer in layers for facet in facets]  # type: ignore[arg-type]


def planes_of(image: np.ndarray, backbone: Backbone, found: dict[FeatureSpec, TemplateBank]) -> list[np.ndarray]:
    """(9, H, W) saliency for each spec."""
    features = backbone.extract(torch.from_numpy(image.copy())[None], list(found))
    return [saliency_planes([features[spec]], [bank], ATTRIBUTES, "max")[0].numpy() for spec, bank in found.items()]


def row(image: np.ndarray, planes: np.ndarray, title: str) -> list[np.ndarray]:
    """The picture and nine heat maps as captioned panels."""
    panels = [overlays.captioned(overlays.fit(image, *PANEL_WH), title)]
    for name, plane in zip(ATTRIBUTES, planes, strict=True):
        caption = f"{name} {plane.max():.2f}"
        panels.append(overlays.captioned(overlays.fit(overlays.heat_map(image, plane), *PANEL_WH), caption))
    return panels


def overlap(all_planes: list[np.ndarray]) -> np.ndarray:
    """(9, 9): mean over pictures of sum min(S_a, S_b) / sum S_a, the share of a's saliency that b has too."""
    rows = []
    for planes in all_planes:
        shared = np.minimum(planes[:, None], planes[None]).sum(axis=(2, 3))
        rows.append(shared / planes.sum(axis=(1, 2)).clip(1e-9)[:, None])
    mean: np.ndarray = np.mean(rows, axis=0)
    return mean


def ranks(library: TemplateLibrary, backbone: Backbone, specs: list[FeatureSpec]) -> dict[FeatureSpec, list[float]]:
    """For each spec, the area under the ROC curve of each attribute, templates of the same subject left out."""
    from scipy.stats import rankdata

    areas: dict[FeatureSpec, list[float]] = {}
    positive = [(i, t) for i, t in enumerate(library.templates) if not t.negative]
    subjects = [library.pictures[t.picture].subject for _, t in positive]
    labels = [t.attribute for _, t in positive]
    for spec, vectors in compute_vectors(library, backbone, specs).items():
        templates = F.normalize(vectors["templates"][[i for i, _ in positive]] - vectors["mean"], dim=-1)
        background = F.normalize(vectors["background"] - vectors["mean"], dim=-1)
        cosine = torch.cat([templates, background]) @ templates.T
        for query, subject in enumerate(subjects):
            same = torch.tensor([other == subject for other in subjects])
            cosine[query, same] = -1
        areas[spec] = []
        for name in ATTRIBUTES:
            score = cosine[:, [i for i, label in enumerate(labels) if label == name]].amax(dim=1).numpy()
            truth = np.array([label == name for label in labels] + [False] * len(background))
            usable = score > -1
            order, truth = rankdata(score[usable]), truth[usable]
            pairs = truth.sum() * (~truth).sum()
            areas[spec].append(float((order[truth].sum() - truth.sum() * (truth.sum() + 1) / 2) / pairs))
    return areas


def plot(matrix: np.ndarray, path: Path) -> None:
    """The overlap matrix as a picture with its numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.2, 5.4), layout="constrained")
    shown = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(9), ATTRIBUTES, rotation=45)
    axes.set_yticks(range(9), ATTRIBUTES)
    for a, b in np.ndindex(matrix.shape):
        axes.text(b, a, f"{matrix[a, b]:.2f}", ha="center", va="center", color="k" if matrix[a, b] > 0.5 else "w")
    axes.set_title("share of the row's saliency that the column has too")
    figure.colorbar(shown, shrink=0.8)
    figure.savefig(path, dpi=110)


def table(header: list[str], rows: list[list[str]]) -> None:
    """Markdown on standard output."""
    for line in [header, ["---"] * len(header), *rows]:
        print("| " + " | ".join(line) + " |")


def main() -> None:
    """Write one sheet or table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("maps", "grid", "overlap", "ranks"))
    parser.add_argument("people", nargs="*")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--layers", default="", help="e.g. 9,11; default: 11 for maps and overlap, 5 to 11 for a grid")
    parser.add_argument("--facets", default="", help="default: key for maps and overlap, all four for grid and ranks")
    parser.add_argument("--short-side", type=int, default=448)
    arguments = parser.parse_args()
    single = arguments.what in ("maps", "overlap")
    layers = [int(n) for n in arguments.layers.split(",") if n] or ([11] if single else [5, 7, 8, 9, 10, 11])
    facets = [f for f in arguments.facets.split(",") if f] or (["key"] if single else list(FACETS))
    if arguments.what != "ranks" and not (arguments.people and arguments.output):
        parser.error(f"{arguments.what} needs PERSON and --output")

    library, backbone = TemplateLibrary.load(), Backbone.load(NAME, torch.device("cpu"))
    specs = specs_of(layers, facets, arguments.short_side)
    if arguments.what == "ranks":
        areas = ranks(library, backbone, specs)
        rows = [
            [f"{s.layer} {s.facet}", *(f"{area:.2f}" for area in areas[s]), f"{np.mean(areas[s]):.3f}"] for s in specs
        ]
        table(["layer, facet", *ATTRIBUTES, "mean"], rows)
        return
    found = banks(library, backbone, specs)
    people = [(Path(person.partition("@")[0]).stem, read(person)) for person in arguments.people]
    if arguments.what == "overlap":
        matrix = overlap([planes for _, image in people for planes in planes_of(image, backbone, found)])
        table(
            ["", *ATTRIBUTES],
            [[name, *(f"{v:.2f}" for v in line)] for name, line in zip(ATTRIBUTES, matrix, strict=True)],
        )
        plot(matrix, arguments.output)
        return
    panels = []
    for name, image in people:
        for spec, planes in zip(specs, planes_of(image, backbone, found), strict=True):
            panels += row(image, planes, name[:14] if single else f"{spec.layer} {spec.facet}")
    Image.fromarray(overlays.sheet(panels, columns=10)).save(arguments.output)


if __name__ == "__main__":
    main()
