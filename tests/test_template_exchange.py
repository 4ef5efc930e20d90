"""Exported templates come back as they were; a file that is not what it says changes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tiny import TINY_SETTINGS, patchwork, tiny_backbone

from anonymotion import template_exchange
from anonymotion.backbone import Backbone
from anonymotion.errors import AnonymotionError, OutputError, TemplateError
from anonymotion.presets import PRESETS, settings_for
from anonymotion.template_crop import Mark, cut
from anonymotion.template_exchange import export_templates, import_templates
from anonymotion.templates import TemplateLibrary
from anonymotion.user_library import UserLibrary


@pytest.fixture(autouse=True)
def _tiny_specs(tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The strict preset on the tiny network, whose last block is number 2."""
    monkeypatch.setitem(PRESETS, "strict", settings_for("strict", **TINY_SETTINGS))


@pytest.fixture
def sender(tmp_path: Path) -> UserLibrary:
    """Two templates of `logo`, one of them a box, a negative one, and one of `plate`."""
    own = UserLibrary(tmp_path / "sender", named=True)
    crops = [cut(patchwork((64, 90), seed), Mark(point=(30 + seed, 20))) for seed in range(3)]
    own.add(crops[0], "logo", subject="a star")
    own.add(cut(patchwork((64, 90), 0), Mark(box=(10, 10, 50, 40))), "logo")
    own.add(crops[1], "logo", negative=True)
    own.add(crops[2], "plate")
    return own


@pytest.fixture
def receiver(tmp_path: Path) -> UserLibrary:
    return UserLibrary(tmp_path / "receiver", named=True)


@pytest.fixture
def exported(sender: UserLibrary, tiny: Backbone, tmp_path: Path) -> Path:
    path = tmp_path / "logo.safetensors"
    export_templates(sender, path, ["logo"], lambda: tiny)
    return path


def templates_in(own: UserLibrary) -> set[str]:
    loaded = TemplateLibrary.load(own.folder)
    return {loaded.template_id(t) for t in loaded.templates}


def contents(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as stream:
        return stream.metadata(), {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


def test_what_was_exported_is_imported(
    sender: UserLibrary, receiver: UserLibrary, exported: Path, tiny: Backbone
) -> None:
    done = import_templates(receiver, exported, lambda: tiny)
    assert len(done.change.templates) == 3
    assert done.change.skipped == 0
    assert done.compared == 3
    assert templates_in(receiver) < templates_in(sender)
    loaded = TemplateLibrary.load(receiver.folder)
    assert {t.attribute for t in loaded.templates} == {"logo"}
    assert {p.subject for p in loaded.pictures.values()} == {"a star", ""}
    assert all(picture.read().shape for picture in loaded.pictures.values())


def test_nothing_of_the_sender_but_crops_is_in_the_file(exported: Path, sender: UserLibrary) -> None:
    data = exported.read_bytes()
    assert str(sender.folder).encode() not in data
    metadata, tensors = contents(exported)
    assert set(metadata) == {"format", "format_version", "library", "backbone_fingerprint", "specs"}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.uint8, torch.float32}


def test_what_is_there_already_is_skipped_and_counted(
    sender: UserLibrary, receiver: UserLibrary, exported: Path, tiny: Backbone, tmp_path: Path
) -> None:
    import_templates(receiver, exported, lambda: tiny)
    before = templates_in(receiver)
    again = import_templates(receiver, exported, lambda: tiny)
    assert (len(again.change.templates), again.change.skipped) == (0, 3)
    export_templates(sender, tmp_path / "both.safetensors", ["plate", "logo"], lambda: tiny)
    more = import_templates(receiver, tmp_path / "both.safetensors", lambda: tiny)
    assert (len(more.change.templates), more.change.skipped) == (1, 3)
    assert before < templates_in(receiver)


def test_other_weights_cannot_compare_and_do_not_have_to(receiver: UserLibrary, exported: Path) -> None:
    done = import_templates(receiver, exported, lambda: tiny_backbone(seed=1))
    assert done.compared == 0
    assert len(done.change.templates) == 3


@pytest.mark.parametrize(
    ("name", "attributes", "error", "expected"),
    [
        ("x.pt", ["logo"], OutputError, ".safetensors"),
        ("x.safetensors", ["lgo"], TemplateError, "did you mean 'logo'"),
        ("x.safetensors", ["hair"], TemplateError, "built-in"),
        ("logo.safetensors", ["logo"], OutputError, "--force"),
        ("no/x.safetensors", ["logo"], OutputError, "does not exist"),
    ],
)
def test_what_cannot_be_exported(
    sender: UserLibrary,
    exported: Path,
    tiny: Backbone,
    name: str,
    attributes: list[str],
    error: type[AnonymotionError],
    expected: str,
) -> None:
    before = {path: path.read_bytes() for path in exported.parent.iterdir() if path.is_file()}
    with pytest.raises(error, match=expected):
        export_templates(sender, exported.parent / name, attributes, lambda: tiny)
    assert {path: path.read_bytes() for path in exported.parent.iterdir() if path.is_file()} == before


def test_a_damaged_picture_is_not_exported(sender: UserLibrary, tiny: Backbone, tmp_path: Path) -> None:
    picture = next(iter(TemplateLibrary.load(sender.folder).pictures.values())).path
    picture.write_bytes(picture.read_bytes()[:-9])
    with pytest.raises(TemplateError, match=picture.name):
        export_templates(sender, tmp_path / "x.safetensors", ["logo"], lambda: tiny)
    assert not (tmp_path / "x.safetensors").exists()


# Files that are not what they say.  Each change takes metadata and tensors of a good file and spoils them.

Metadata = dict[str, str]
Tensors = dict[str, torch.Tensor]


def png(size_wh: tuple[int, int], mode: str = "RGB", kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size_wh).save(stream, kind)
    return stream.getvalue()


def bomb() -> bytes:
    """A small file that says that it is of 50,000 x 50,000 pixels."""
    data = bytearray(png((64, 64)))
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def with_picture(data: bytes) -> Callable[[Metadata, Tensors], None]:
    """The first picture replaced by `data`, consistently: id and checksum are right."""

    def change(metadata: Metadata, tensors: Tensors) -> None:
        old = next(name.removeprefix("picture/") for name in tensors if name.startswith("picture/"))
        digest = hashlib.sha256(data).hexdigest()
        was = hashlib.sha256(tensors.pop(f"picture/{old}").numpy().tobytes()).hexdigest()
        tensors[f"picture/{digest[:16]}"] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        metadata["library"] = metadata["library"].replace(was, digest).replace(old, digest[:16])

    return change


def with_text(old: str, new: str, key: str = "library") -> Callable[[Metadata, Tensors], None]:
    def change(metadata: Metadata, tensors: Tensors) -> None:
        assert old in metadata[key]
        metadata[key] = metadata[key].replace(old, new)

    return change


def with_metadata(**changes: str) -> Callable[[Metadata, Tensors], None]:
    return lambda metadata, tensors: metadata.update(changes)


def with_descriptors(values: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Metadata, Tensors], None]:
    return lambda metadata, tensors: tensors.update({"descriptors/0": values(tensors["descriptors/0"])})


def spoiled_first(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor[0] = value
        return tensor

    return change


BAD: dict[str, tuple[Callable[[Metadata, Tensors], Any], str]] = {
    "newer format": (with_metadata(format_version="2"), "upgrade"),
    "newer library": (with_text("schema_version = 1", "schema_version = 2\nnew = 1"), "upgrade"),
    "format without a number": (with_metadata(format_version="one"), "format version"),
    "format of many digits": (with_metadata(format_version="9" * 5000), "again"),
    "another format": (with_metadata(format="weights"), "holds no templates"),
    "no library": (with_metadata(library=""), "schema_version"),
    "broken library": (with_metadata(library="[["), "TOML"),
    "deep library": (with_metadata(library="a = " + "[" * 100_000), "TOML"),
    "name of a group": (with_text('"logo"', '"face"'), "group"),
    "name with a path": (with_text('"logo"', '"../../logo"'), "cannot be used"),
    "file outside": (with_text('"pictures/', '"../pictures/'), "outside"),
    "absolute file": (with_text('"pictures/', '"/pictures/'), "outside"),
    "file with another name": (with_text('file = "pictures/', 'file = "pictures/a'), "recorded"),
    "kind": (with_text('kind = "own"', 'kind = "background"'), "kind"),
    "long text": (with_text("a star", "x" * 600), "600 characters"),
    "checksum": (with_text('sha256 = "', 'sha256 = "0'), "recorded"),
    "point outside": (with_text("31.0,", "3100.0,"), "outside"),
    "point not a number": (with_text("31.0,", "nan,"), "outside"),
    "point at infinity": (with_text("31.0,", "inf,"), "outside"),
    "key twice": (with_text("[[template]]", "[[template]]\nnegative = true"), "not valid TOML"),
    "picture missing": (lambda m, t: t.pop(next(n for n in t if n.startswith("picture/"))), "pictures"),
    "picture too many": (lambda m, t: t.update({"picture/more": torch.zeros(4, dtype=torch.uint8)}), "pictures"),
    "foreign tensor": (lambda m, t: t.update({"weights": torch.zeros(4)}), "none of a template file"),
    "tensor of another type": (lambda m, t: t.update({"picture/x": torch.zeros(4, dtype=torch.bfloat16)}), "none of"),
    "picture cut": (with_picture(png((64, 64))[:60]), "decoded"),
    "no picture": (with_picture(b"x" * 200), "no PNG"),
    "short picture": (with_picture(b"x"), "no PNG"),
    "jpeg": (with_picture(png((64, 64), kind="JPEG")), "no PNG"),
    "grey picture": (with_picture(png((64, 64), mode="L")), "no PNG"),
    "bomb": (with_picture(bomb()), "50000x50000"),
    "long picture": (with_picture(png((64, 64 * 5))), "64x320"),
    "small picture": (with_picture(png((15, 15))), "15x15"),
    "descriptors not finite": (with_descriptors(spoiled_first(float("nan"))), "finite"),
    "descriptors changed": (with_descriptors(spoiled_first(-1.0)), "not that of its crop"),
    "descriptors exchanged": (with_descriptors(lambda d: d[[1, 0, 2]].contiguous()), "not that of its crop"),
    "descriptors too few": (with_descriptors(lambda d: d[:2].contiguous()), "one per template"),
    "descriptors too short": (with_descriptors(lambda d: d[:, :5].contiguous()), "5 numbers"),
    "descriptors missing": (lambda m, t: t.pop("descriptors/0"), "descriptors"),
    "specs": (with_metadata(specs="[{"), "what its descriptors are"),
    "specs of another kind": (with_metadata(specs='[{"layer": "x"}]'), "what its descriptors are"),
    "specs with more": (with_metadata(specs='[{"colour": 1}]'), "what its descriptors are"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_what_it_says_changes_nothing(
    receiver: UserLibrary, exported: Path, tiny: Backbone, tmp_path: Path, name: str
) -> None:
    change, expected = BAD[name]
    metadata, tensors = contents(exported)
    change(metadata, tensors)
    save_file(tensors, tmp_path / "bad.safetensors", metadata)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TemplateError, match=expected) as caught:
        import_templates(receiver, tmp_path / "bad.safetensors", lambda: tiny)
    assert len(str(caught.value)) < 600
    assert sorted(tmp_path.rglob("*")) == before


def test_a_negative_without_anything_to_take_from(
    receiver: UserLibrary, exported: Path, tiny: Backbone, tmp_path: Path
) -> None:
    metadata, tensors = contents(exported)
    library = metadata["library"].replace("negative = true\n", "")
    head, *entries = library.split("[[template]]\n")
    metadata["library"] = "[[template]]\n".join([head, *(f"negative = true\n{entry}" for entry in entries)])
    save_file(tensors, tmp_path / "bad.safetensors", metadata)
    with pytest.raises(TemplateError, match="no template yet"):
        import_templates(receiver, tmp_path / "bad.safetensors", lambda: tiny)
    assert not receiver.folder.exists()


def test_a_template_that_is_there_twice_is_taken_once(
    receiver: UserLibrary, exported: Path, tiny: Backbone, tmp_path: Path
) -> None:
    metadata, tensors = contents(exported)
    metadata["library"] += "[[template]]\n" + metadata["library"].split("[[template]]\n")[1]
    tensors["descriptors/0"] = torch.cat([tensors["descriptors/0"], tensors["descriptors/0"][:1]])
    save_file(tensors, tmp_path / "twice.safetensors", metadata)
    done = import_templates(receiver, tmp_path / "twice.safetensors", lambda: tiny)
    assert (len(done.change.templates), done.change.skipped) == (3, 1)
    assert len(TemplateLibrary.load(receiver.folder).templates) == 3


def test_a_template_of_the_opposite_sign_is_a_conflict(
    sender: UserLibrary, receiver: UserLibrary, exported: Path, tiny: Backbone
) -> None:
    receiver.add(cut(patchwork((64, 90), 7), Mark(point=(9, 9))), "logo")
    receiver.add(cut(patchwork((64, 90), 0), Mark(point=(30, 20))), "logo", negative=True)
    before = templates_in(receiver)
    with pytest.raises(TemplateError, match="remove that one first"):
        import_templates(receiver, exported, lambda: tiny)
    assert templates_in(receiver) == before


@pytest.mark.parametrize("keep", [0, 1, 8, 100, 1000, -1])
def test_a_cut_file(receiver: UserLibrary, exported: Path, tiny: Backbone, keep: int) -> None:
    exported.write_bytes(exported.read_bytes()[:keep])
    with pytest.raises(TemplateError, match="again"):
        import_templates(receiver, exported, lambda: tiny)
    assert not receiver.folder.exists()


def test_a_pickle_is_never_opened(receiver: UserLibrary, tiny: Backbone, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("x.pt", "x.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(TemplateError):
            import_templates(receiver, tmp_path / name, lambda: tiny)
    assert not (tmp_path / "exploded").exists()
    assert not receiver.folder.exists()


def test_absent_and_other_places(receiver: UserLibrary, tiny: Backbone, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("absent.safetensors", "folder.safetensors"):
        with pytest.raises(TemplateError, match=name):
            import_templates(receiver, tmp_path / name, lambda: tiny)


@pytest.mark.parametrize(("limit", "value"), [("MOST_PICTURES", 1), ("MOST_TEMPLATES", 2), ("MOST_FILE_BYTES", 100)])
def test_more_than_is_taken(
    receiver: UserLibrary, exported: Path, tiny: Backbone, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(template_exchange, limit, value)
    with pytest.raises(TemplateError, match="at most"):
        import_templates(receiver, exported, lambda: tiny)
    assert not receiver.folder.exists()


@pytest.fixture
def small_file(tiny: Backbone, tmp_path: Path) -> bytes:
    """One template in a picture of 20x20 pixels, exported."""
    own = UserLibrary(tmp_path / "small", named=True)
    own.add(cut(patchwork((20, 20)), Mark(point=(3, 4))), "logo")
    export_templates(own, tmp_path / "small.safetensors", ["logo"], lambda: tiny)
    return (tmp_path / "small.safetensors").read_bytes()


# the fixtures are only read, so that they may serve all examples
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_byte_changed_anywhere_is_refused_or_harmless(
    places: list[tuple[float, int]], small_file: bytes, tiny: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever was changed: the error is a known one, or what was imported is what was exported."""
    folder = tmp_path_factory.mktemp("fuzz")
    data = bytearray(small_file)
    for share, value in places:
        data[min(int(share * len(data)), len(data) - 1)] = value
    (folder / "bad.safetensors").write_bytes(data)
    receiver = UserLibrary(folder / "receiver", named=True)
    try:
        import_templates(receiver, folder / "bad.safetensors", lambda: tiny)
    except TemplateError:
        assert not receiver.folder.exists()
    else:
        loaded = TemplateLibrary.load(receiver.folder)
        (picture,) = loaded.pictures.values()
        assert (picture.read() == patchwork((20, 20))).all()


def test_the_specs_are_those_of_the_strict_preset(exported: Path) -> None:
    metadata, tensors = contents(exported)
    (spec,) = json.loads(metadata["specs"])
    assert (spec["layer"], spec["short_side"], spec["mean"]) == (2, 56, None)
    assert tensors["descriptors/0"].shape == (3, 32)
    assert np.isfinite(tensors["descriptors/0"].numpy()).all()
