"""The studio's calls, with the embedded network on small frames: what is seen is what a run does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from studio_parts import opened
from synthetic import make_clip, picture
from tiny import nine_attributes

from anonymotion.backbone import Backbone
from anonymotion.pipeline import Hider
from anonymotion.policy import Policy
from anonymotion.registry import FeatureSpec
from anonymotion.studio import features, pointing
from anonymotion.studio.features import FeatureStore, RememberingBackbone
from anonymotion.studio.workbench import Workbench
from anonymotion.templates import TemplateLibrary
from anonymotion.user_library import UserLibrary
from anonymotion.video import open_source

FRAMES = 9
SMALL: dict[str, Any] = {"short_side": 112, "threshold": "0.45", "contrast": "0"}
Studio = tuple[TestClient, Workbench]


@pytest.fixture
def studio(embedded_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A clip that moves, a library of generated pictures, and small frames."""
    library = nine_attributes(tmp_path / "built-in")
    monkeypatch.setattr(Backbone, "load", lambda *_, **__: embedded_backbone)
    monkeypatch.setattr(TemplateLibrary, "load", _loader(library))
    folder = tmp_path / "videos"
    folder.mkdir()
    make_clip(folder / "clip.mp4", images=[np.roll(picture(1), 2 * i, axis=1) for i in range(FRAMES)])
    with opened(folder, library=tmp_path / "mine") as (client, bench):
        put(client, {"attributes": ["hair"], "settings": SMALL})
        yield client, bench


def _loader(library: TemplateLibrary) -> Any:
    def load(folder: Path | None = None) -> TemplateLibrary:
        if folder is None:
            return library
        path = folder / "library.toml"
        return TemplateLibrary.parse(path.read_bytes(), path)

    return load


def put(client: TestClient, policy: dict[str, Any]) -> dict[str, Any]:
    seen = client.get("api/policy").json()["revision"]
    answer = client.put("api/policy", json={"policy": policy, "seen": seen})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def clip_of(client: TestClient) -> str:
    (clip,) = client.get("api/videos").json()
    return str(clip["id"])


def opened_picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def frames_of(bench: Workbench) -> list[np.ndarray]:
    (clip,) = bench.session.clips.all()
    with open_source(clip.path) as source:
        return [frame.image for frame in source]


# ---------------------------------------------------------------------- frames and features


def test_a_frame_is_shown_at_full_quality(studio: Studio) -> None:
    client, bench = studio
    clip = clip_of(client)
    details = client.get(f"api/videos/{clip}").json()
    assert (details["width"], details["height"], details["frames"]) == (96, 64, FRAMES)
    assert details["duration_seconds"] == pytest.approx(FRAMES / 25)
    shown = opened_picture(client.get(f"api/videos/{clip}/frames/5").content)
    assert np.array_equal(shown, frames_of(bench)[5])
    draft = client.get(f"api/videos/{clip}/frames/5?draft=true")
    assert draft.headers["content-type"] == "image/jpeg"
    assert client.get(f"api/videos/{clip}/frames/{FRAMES}").status_code == 422


def test_features_are_computed_once_and_are_those_of_the_network(embedded_backbone: Backbone, tmp_path: Path) -> None:
    images = torch.from_numpy(np.stack([picture(i) for i in range(3)]))
    specs = [
        FeatureSpec("dinov2-vits14-embedded", 3, "key", 14, 56),
        FeatureSpec("dinov2-vits14-embedded", 2, "value", 14, 56),
    ]
    remembering = RememberingBackbone(embedded_backbone, FeatureStore(tmp_path / "f", 1 << 30))
    first = remembering.extract(images[:2], specs)
    again = remembering.extract(images, specs)
    assert (remembering.computed, remembering.reused) == (3, 2)
    # another process: nothing in memory
    other = RememberingBackbone(embedded_backbone, FeatureStore(tmp_path / "f", 1 << 30))
    read = other.extract(images, specs)
    assert (other.computed, other.reused) == (0, 3)
    for spec, expected in embedded_backbone.extract(images, specs).items():
        assert torch.allclose(again[spec].descriptors, expected.descriptors, atol=1e-4)
        assert torch.equal(read[spec].descriptors, again[spec].descriptors)
        assert torch.equal(again[spec].descriptors[:2], first[spec].descriptors)


def test_what_does_not_fit_or_is_damaged_is_computed_again(
    embedded_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.from_numpy(np.stack([picture(i) for i in range(2)]))
    spec = FeatureSpec("dinov2-vits14-embedded", 1, "key", 14, 56)
    small = RememberingBackbone(embedded_backbone, FeatureStore(tmp_path / "none", 10))
    small.extract(images, [spec])
    assert list((tmp_path / "none").iterdir()) == []
    kept = FeatureStore(tmp_path / "some", 1 << 30)
    RememberingBackbone(embedded_backbone, kept).extract(images, [spec])
    for file in (tmp_path / "some").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    monkeypatch.setattr(features, "IN_MEMORY", 0)
    again = RememberingBackbone(embedded_backbone, FeatureStore(tmp_path / "some", 1 << 30))
    again.extract(images, [spec])
    assert again.computed == 2


# ---------------------------------------------------------------------- what is seen is what a run does


def test_the_heat_map_is_the_saliency_of_a_run(studio: Studio, embedded_backbone: Backbone) -> None:
    client, bench = studio
    clip = clip_of(client)
    put(client, {"attributes": ["hair", "leg"], "settings": {**SMALL, "contrast": "0.2"}})
    answer = client.get(f"api/videos/{clip}/frames/4/heat/leg")
    assert answer.status_code == 200
    assert opened_picture(answer.content).shape == (64, 96, 4)
    policy, _ = bench.session.policy
    hider = Hider(policy=policy, library=bench.library, network=embedded_backbone)
    ((_, planes),) = hider.saliency([frames_of(bench)[4]])
    assert float(answer.headers["x-strongest"]) == pytest.approx(float(planes[1].max()), abs=1e-3)
    (found,) = bench.session.clips.all()
    seen = bench.seeing.heat(found, 4, "leg", policy, bench.library, lambda: True)
    assert np.allclose(seen, planes[1], atol=1e-4)
    assert client.get(f"api/videos/{clip}/frames/4/heat/nothing").status_code == 404


@pytest.mark.parametrize("number", [0, 4, FRAMES - 1])
def test_with_its_neighbours_a_frame_is_hidden_as_in_a_run(
    studio: Studio, embedded_backbone: Backbone, number: int
) -> None:
    client, bench = studio
    put(client, {"attributes": ["hair"], "settings": {**SMALL, "look_ahead": 2}, "include": ["0,0,9,9@-00:00.1"]})
    policy, _ = bench.session.policy
    hider = Hider(policy=policy, library=bench.library, network=embedded_backbone, every="1")
    images = frames_of(bench)
    times = [(i / 25, (i + 1) / 25) for i in range(len(images))]
    masks = torch.cat([chunk.alpha for chunk in hider.explain(images, times)])
    (clip,) = bench.session.clips.all()
    seen = bench.seeing.explained(clip, number, policy, bench.library, exact=True)
    assert 0.02 < masks[number].mean() < 0.98
    assert (seen.alpha == masks[number].numpy()).mean() > 0.99
    alone = bench.seeing.explained(clip, number, policy, bench.library)
    assert (alone.alpha == 1).sum() <= (seen.alpha == 1).sum()
    inside = seen.alpha == 1
    assert np.array_equal(seen.output[inside], seen.noise[inside])
    assert np.array_equal(seen.output[seen.alpha == 0], images[number][seen.alpha == 0])


@pytest.mark.parametrize("layer", ["outline", "noise", "flow", "result"])
def test_layers_have_the_frame_s_size(studio: Studio, layer: str) -> None:
    client, _ = studio
    answer = client.get(f"api/videos/{clip_of(client)}/frames/3/layers/{layer}")
    assert answer.headers["content-type"] == "image/png"
    shown = opened_picture(answer.content)
    assert shown.shape == (64, 96, 4 if layer in ("outline", "noise") else 3)


def test_a_request_that_is_out_of_date_is_given_up(studio: Studio) -> None:
    client, _ = studio
    path = f"api/videos/{clip_of(client)}/frames/3/heat/hair"
    assert client.get(f"{path}?view=a&turn=5").status_code == 200
    assert client.get(f"{path}?view=a&turn=4").status_code == 409
    assert client.get(f"{path}?view=b&turn=1").status_code == 200


# ---------------------------------------------------------------------- why


def pixel(client: TestClient, x: float, y: float) -> dict[str, Any]:
    answer = client.get(f"api/videos/{clip_of(client)}/frames/3/pixel?x={x}&y={y}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_why_a_pixel_is_hidden(studio: Studio, embedded_backbone: Backbone) -> None:
    client, bench = studio
    policy, _ = bench.session.policy
    hider = Hider(policy=policy, library=bench.library, network=embedded_backbone)
    ((_, planes),) = hider.saliency([frames_of(bench)[3]])
    y, x = np.unravel_index(int(planes[0].argmax()), planes[0].shape)
    found = pixel(client, float(x), float(y))
    assert found["state"] == "hidden"
    assert found["why"].startswith("hair matches with")
    (best,) = found["findings"]
    assert best["saliency"] == pytest.approx(float(planes[0, y, x]), abs=1e-3)
    assert (best["attribute"], best["own"], best["picture"]) == ("hair", False, "one")
    put(client, {"attributes": ["hair"], "settings": SMALL, "exclude": [f"{x - 3},{y - 3},{x + 4},{y + 4}"]})
    assert "never hidden" in pixel(client, float(x), float(y))["why"]
    put(client, {"attributes": ["hair"], "settings": SMALL, "spans": ["00:10-"]})
    assert "outside the times" in pixel(client, float(x), float(y))["why"]
    put(client, {"attributes": ["hair"], "settings": {**SMALL, "threshold": "0.99"}})
    assert "nearest is hair" in pixel(client, float(x), float(y))["why"]
    put(client, {"settings": SMALL, "include": ["0,0,20,20"]})
    found = pixel(client, 10, 10)
    assert (found["state"], found["findings"]) == ("hidden", [])
    assert "always hidden" in found["why"]
    put(client, {})
    assert pixel(client, 1, 1)["why"] == "Nothing was chosen yet."


def test_a_pixel_beside_what_was_found_says_so(studio: Studio) -> None:
    client, bench = studio
    (clip,) = bench.session.clips.all()
    policy, _ = bench.session.policy
    alpha = bench.seeing.explained(clip, 3, policy, bench.library).alpha
    reasons = set()
    for y in range(0, 64, 3):
        for x in range(0, 96, 3):
            found = pixel(client, x, y)
            assert (found["state"] == "visible") == (alpha[y, x] == 0)
            reasons.add(found["why"].split(":")[0][:30])
    assert any(reason.startswith("It lies beside") for reason in reasons)
    assert isinstance(pointing.findings(bench.seeing, clip, 3, 1, 1, policy, bench.library), list)


def test_a_pixel_outside_is_an_error_in_words(studio: Studio) -> None:
    client, _ = studio
    answer = client.get(f"api/videos/{clip_of(client)}/frames/3/pixel?x=96&y=1")
    assert answer.status_code == 400
    assert "outside the frame of 96x64" in answer.json()["error"]


# ---------------------------------------------------------------------- templates


def mark(client: TestClient, **place: Any) -> dict[str, Any]:
    answer = client.post(f"api/videos/{clip_of(client)}/frames/2/candidates", json=place)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_click_finds_itself_and_becomes_a_template(studio: Studio, tmp_path: Path) -> None:
    client, bench = studio
    candidate = mark(client, point=[40.0, 30.0])
    answer = client.get(f"api/videos/{candidate['clip']}/frames/2/similar/{candidate['id']}")
    assert float(answer.headers["x-strongest"]) > 0.9
    body = {"candidate": candidate["id"], "attribute": "Logo"}
    added = client.post("api/templates", json=body)
    assert added.status_code == 201, added.text
    assert (added.json()["attribute"], added.json()["kept"]) == ("logo", False)
    assert "logo" in [each["name"] for each in client.get("api/attributes").json()["attributes"]]
    put(client, {"attributes": ["logo"], "settings": SMALL})
    assert client.get(f"api/videos/{candidate['clip']}/frames/2/heat/logo").status_code == 200
    crop = client.get(f"api/templates/{added.json()['id']}/picture")
    assert opened_picture(crop.content).shape == (128, 128, 3)
    # the user's own library has nothing of it, and a policy cannot name what is gone
    assert UserLibrary.at(tmp_path / "mine").read() is None
    assert client.delete(f"api/templates/{added.json()['id']}").status_code == 204
    assert client.get("api/policy").json()["policy"]["attributes"] == []
    assert bench.library.own_templates == ()


def test_what_is_to_be_kept_is_kept_and_can_be_deleted(studio: Studio, tmp_path: Path) -> None:
    client, _ = studio
    body = {"candidate": mark(client, box=[20, 10, 60, 50])["id"], "attribute": "hair", "keep": True}
    added = client.post("api/templates", json=body).json()
    assert (added["kept"], added["own"]) == (True, True)
    own = UserLibrary.at(tmp_path / "mine").read()
    assert own is not None
    assert [t.attribute for t in own.templates] == ["hair"]
    assert "already" in client.post("api/templates", json=body).json()["error"]
    with opened(None, library=tmp_path / "mine") as (other, _):
        assert [each["kept"] for each in other.get("api/templates?own=true").json()] == [True]
    assert client.delete(f"api/templates/{added['id']}").status_code == 204
    assert UserLibrary.at(tmp_path / "mine").read() is None


def test_not_this_takes_away(studio: Studio) -> None:
    client, bench = studio
    put(client, {"attributes": ["hair"], "settings": {**SMALL, "contrast": "0.1"}})
    clip = clip_of(client)
    before = float(client.get(f"api/videos/{clip}/frames/2/heat/hair").headers["x-strongest"])
    (found,) = bench.session.clips.all()
    policy, _ = bench.session.policy
    plane = bench.seeing.heat(found, 2, "hair", policy, bench.library, lambda: True)
    y, x = np.unravel_index(int(plane.argmax()), plane.shape)
    candidate = mark(client, point=[float(x), float(y)])
    body = {"candidate": candidate["id"], "attribute": "hair", "negative": True}
    assert client.post("api/templates", json=body).json()["negative"] is True
    after = bench.seeing.heat(found, 2, "hair", policy, bench.library, lambda: True)
    assert after[y, x] < 0.5 * before


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"point": [96.0, 1.0]}, "outside the picture"),
        ({"box": [10, 10, 10, 20]}, "is empty"),
        ({}, "mark one place"),
        ({"point": [1.0]}, "point"),
    ],
)
def test_a_place_that_cannot_be_is_refused_in_words(studio: Studio, place: dict[str, Any], said: str) -> None:
    client, _ = studio
    answer = client.post(f"api/videos/{clip_of(client)}/frames/2/candidates", json=place)
    assert answer.status_code in (400, 422)
    assert said in answer.json()["error"]


def test_built_in_templates_stay(studio: Studio) -> None:
    client, _ = studio
    template = client.get("api/templates?attribute=hair").json()[0]
    answer = client.delete(f"api/templates/{template['id']}")
    assert (answer.status_code, "built in" in answer.json()["error"]) == (400, True)


# ---------------------------------------------------------------------- the policy file


def test_a_policy_is_saved_as_hide_takes_it_and_loaded_again(studio: Studio, tmp_path: Path) -> None:
    client, bench = studio
    body = {
        "attributes": ["person"],
        "keep": ["leg"],
        "settings": {**SMALL, "threshold": "hair=0.3", "dilation": 2.5, "debias": True},
        "include": ["1,2,30,40", "10%,10% 50%,10% 30%,60%@00:00.1-00:00.2"],
        "exclude": ["80,0,96,20"],
        "spans": ["00:00-00:01"],
    }
    state = put(client, body)
    assert "leg" not in state["asked"]
    assert state["thresholds"]["hair"] == 0.3
    text = client.get("api/policy/file").text
    path = tmp_path / "policy.toml"
    path.write_text(text)
    loaded, (policy, revision) = Policy.load(path), bench.session.policy
    for name in ("attributes", "keep", "preset", "include", "exclude", "spans"):
        assert getattr(loaded, name) == getattr(policy, name), name
    assert loaded.effective_settings() == policy.effective_settings()
    put(client, {})
    answer = client.put("api/policy/file", json={"text": text, "seen": revision + 1})
    assert answer.status_code == 200, answer.text
    assert answer.json()["policy"] == state["policy"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema_version = 9", "upgrade"),
        ("nonsense", "not valid TOML"),
        ("schema_version = 1\nmasks = '/etc'", "no folder of masks"),
        ("schema_version = 1\nattributes = ['nose']", "not in the library"),
    ],
)
def test_a_policy_file_that_cannot_be_used_changes_nothing(studio: Studio, text: str, said: str) -> None:
    client, bench = studio
    before = bench.session.policy
    answer = client.put("api/policy/file", json={"text": text, "seen": before[1]})
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert str(bench.session.folder) not in answer.text
    assert bench.session.policy == before


@pytest.mark.parametrize(
    "policy",
    [
        {"attributes": ["nose"]},
        {"settings": {"threshold": "2"}},
        {"settings": {"no_such": 1}},
        {"include": ["nonsense"]},
        {"unknown": 1},
        {"masks": "/etc"},
    ],
)
def test_a_policy_that_cannot_be_is_refused(studio: Studio, policy: dict[str, Any]) -> None:
    client, bench = studio
    _, revision = bench.session.policy
    answer = client.put("api/policy", json={"policy": policy, "seen": revision})
    assert answer.status_code in (400, 422)
    assert bench.session.policy[1] == revision


# ---------------------------------------------------------------------- the description


def test_the_description_is_true(studio: Studio) -> None:
    """Every call of the page is in it, and answers are of the kind and status that it promises."""
    client, _ = studio
    description = client.get("openapi.json").json()
    paths, clip = description["paths"], clip_of(client)
    assert description["servers"][0]["url"].startswith("/")
    frame = "/api/videos/{clip_id}/frames/{number}"
    tried = {
        "/api/state": "/api/state",
        "/api/videos": "/api/videos",
        "/api/videos/{clip_id}": f"/api/videos/{clip}",
        "/api/videos/{clip_id}/thumbnail": f"/api/videos/{clip}/thumbnail",
        frame: f"/api/videos/{clip}/frames/1",
        f"{frame}/heat/{{attribute}}": f"/api/videos/{clip}/frames/1/heat/hair",
        f"{frame}/layers/{{layer}}": f"/api/videos/{clip}/frames/1/layers/outline",
        f"{frame}/pixel": f"/api/videos/{clip}/frames/1/pixel?x=1&y=1",
        "/api/policy": "/api/policy",
        "/api/policy/file": "/api/policy/file",
        "/api/attributes": "/api/attributes",
        "/api/templates": "/api/templates",
        "/api/jobs": "/api/jobs",
    }
    for path, address in tried.items():
        operation = paths[path]["get"]
        answer = client.get(address)
        promised = operation["responses"][str(answer.status_code)]["content"]
        kind = answer.headers["content-type"].split(";")[0]
        assert kind in promised, (path, promised)
    for path, address in (("/api/jobs/{job_id}", "/api/jobs/none"), (frame, "/api/videos/none/frames/1")):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "404" in paths[path]["get"]["responses"]
        assert set(answer.json()) == {"error", "kind"}
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation.get("summary"), (path, method)


def test_a_run_of_nothing_is_refused(studio: Studio) -> None:
    client, _ = studio
    put(client, {})
    answer = client.post("api/jobs", json={"clips": [clip_of(client)]})
    assert (answer.status_code, "nothing was chosen" in answer.json()["error"]) == (400, True)
    assert client.post("api/jobs", json={"clips": []}).status_code == 422
    assert client.get("api/jobs").json() == []
