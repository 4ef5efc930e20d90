"""The queue with real runs in processes of their own: an end, a stop, a failure, a death; what each leaves.

Slow: every run loads the embedded network.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from studio_parts import opened
from synthetic import make_clip, picture

from anonymotion.studio.seeing import Seeing
from anonymotion.studio.workbench import Workbench
from anonymotion.video import open_source

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SETTINGS = {"short_side": 112, "threshold": "0.2", "contrast": "0"}
Studio = tuple[TestClient, Workbench]


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A short clip and a long one, and a folder for results."""
    monkeypatch.setattr(Seeing, "load", lambda _: None)  # the runs load their own
    videos, results = tmp_path / "videos", tmp_path / "results"
    videos.mkdir()
    results.mkdir()
    for name, frames in (("long.mp4", 400), ("short.mp4", 4)):
        make_clip(videos / name, images=[np.roll(picture(1), i, axis=1) for i in range(frames)])
    with opened(videos, output=results) as (client, bench):
        choose(client, threshold="0.2")
        yield client, bench


def choose(client: TestClient, threshold: str) -> None:
    seen = client.get("api/policy").json()["revision"]
    policy = {"attributes": ["person"], "settings": {**SETTINGS, "threshold": threshold}}
    assert client.put("api/policy", json={"policy": policy, "seen": seen}).status_code == 200


def start(client: TestClient, *names: str) -> list[str]:
    clips = {clip["name"]: clip["id"] for clip in client.get("api/videos").json()}
    answer = client.post("api/jobs", json={"clips": [clips[name] for name in names]})
    assert answer.status_code == 201, answer.text
    return [job["id"] for job in answer.json()]


def waited(client: TestClient, job: str, until: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    for _ in range(6000):
        found: dict[str, object] = client.get(f"api/jobs/{job}").json()
        if until(found):
            return found
        time.sleep(0.1)
    raise AssertionError(found)


def ended(job: dict[str, object]) -> bool:
    return job["state"] in ("done", "failed", "stopped")


def test_runs_follow_each_other_and_the_second_of_a_clip_computes_nothing(studio: Studio, tmp_path: Path) -> None:
    client, bench = studio
    first, second = start(client, "short.mp4") + start(client, "short.mp4")
    assert client.get(f"api/jobs/{second}").json()["state"] == "waiting"
    done = waited(client, first, ended)
    # of four frames two are matched: the first and the last
    assert (done["state"], done["computed"], done["reused"]) == ("done", 2, 0), done
    again = waited(client, second, ended)
    assert (again["state"], again["computed"], again["reused"]) == ("done", 0, 2), again
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["short_hidden.mp4", "short_hidden_2.mp4"]
    report = client.get(f"api/jobs/{first}/report").json()
    assert report["frames"] == 4
    assert report == client.get(f"api/jobs/{first}/report.json").json()
    assert "<!doctype html>" in client.get(f"api/jobs/{first}/report.html").text
    assert "sandbox" in client.get(f"api/jobs/{first}/report.html").headers["content-security-policy"]
    data = client.get(f"api/jobs/{first}/video")
    assert data.content == (tmp_path / "results" / "short_hidden.mp4").read_bytes()
    with open_source(tmp_path / "results" / "short_hidden.mp4") as result:
        assert len(list(result)) == 4
    assert client.get(f"api/jobs/{first}/frames/3").headers["content-type"] == "image/png"
    # what was asked for stays when the studio closes; the report and the features do not
    bench.close()
    assert not bench.session.folder.exists()
    assert (tmp_path / "results" / "short_hidden.mp4").exists()


def test_a_run_that_is_stopped_leaves_nothing(studio: Studio, tmp_path: Path) -> None:
    client, _ = studio
    running, waiting = start(client, "long.mp4", "short.mp4")
    waited(client, running, lambda job: bool(job["done"]))
    assert client.delete(f"api/jobs/{waiting}").status_code == 204
    assert client.delete(f"api/jobs/{running}").status_code == 204
    assert client.get(f"api/jobs/{running}").json()["state"] == "stopped"
    assert client.get(f"api/jobs/{waiting}").json()["state"] == "stopped"
    assert client.delete(f"api/jobs/{running}").status_code == 409
    assert client.get(f"api/jobs/{running}/video").status_code == 409
    # the queue goes on
    after = waited(client, start(client, "short.mp4")[0], ended)
    assert after["state"] == "done"
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["short_hidden_2.mp4"]


def test_a_run_that_dies_says_so_and_leaves_nothing(studio: Studio, tmp_path: Path) -> None:
    client, bench = studio
    (job,) = start(client, "long.mp4")
    waited(client, job, lambda found: bool(found["done"]))
    current = bench.queue._current
    assert current is not None
    assert current[1].pid is not None
    os.kill(current[1].pid, signal.SIGKILL)
    found = waited(client, job, ended)
    assert found["state"] == "failed"
    assert "without a result" in str(found["error"])
    assert list((tmp_path / "results").iterdir()) == []


def test_nothing_matched_is_a_failure_in_words_and_no_file(studio: Studio, tmp_path: Path) -> None:
    client, _ = studio
    choose(client, threshold="1")
    (job,) = start(client, "short.mp4")
    found = waited(client, job, ended)
    assert found["state"] == "failed"
    assert "matched nothing in 4 frames" in str(found["error"])
    assert "NothingMatchedError" in str(found["error"])
    assert list((tmp_path / "results").iterdir()) == []


def test_a_studio_that_closes_stops_its_run(studio: Studio, tmp_path: Path) -> None:
    client, bench = studio
    (job,) = start(client, "long.mp4")
    waited(client, job, lambda found: bool(found["done"]))
    current = bench.queue._current
    assert current is not None
    bench.close()
    assert not current[1].is_alive()
    assert list((tmp_path / "results").iterdir()) == []
    assert not bench.session.folder.exists()
