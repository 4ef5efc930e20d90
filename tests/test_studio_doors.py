"""Each door of the studio, tried: who may ask, what may be asked for, what is left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from studio_parts import HOST, TOKEN, opened
from synthetic import make_clip
from tiny import nine_attributes

from anonymotion.studio import clips
from anonymotion.studio.security import LARGEST_BODY, Hosts, is_loopback
from anonymotion.studio.seeing import Seeing
from anonymotion.studio.workbench import Workbench
from anonymotion.templates import TemplateLibrary

Studio = tuple[TestClient, Workbench]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a clip, and a secret beside it."""
    folder = tmp_path / "videos"
    folder.mkdir()
    make_clip(folder / "clip.mp4", frames=3)
    make_clip(tmp_path / "secret.mp4", frames=3)
    return folder


@pytest.fixture
def studio(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    library = nine_attributes(tmp_path / "built-in")
    monkeypatch.setattr(Seeing, "load", lambda _: None)  # no door needs the network
    monkeypatch.setattr(TemplateLibrary, "load", lambda *_: library)
    with opened(folder, upload_limit=200_000) as found:
        yield found


def error_of(response: object) -> str:
    text = response.json()["error"]  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


# ---------------------------------------------------------------------- who may ask


def test_with_the_token_the_page_opens(studio: Studio) -> None:
    client, _ = studio
    page = client.get("")
    assert page.status_code == 200
    assert "anonymotion" in page.text
    assert client.get("api/state").json()["clips"][0]["name"] == "clip.mp4"


@pytest.mark.parametrize(
    "path", ["/", "/wrong/", "/wrong/api/state", "/api/state", f"/{TOKEN[:-1]}/", f"/x{TOKEN}/api/state"]
)
def test_without_the_token_nothing_is_told(studio: Studio, path: str) -> None:
    client, _ = studio
    answer = client.get(f"http://{HOST}{path}")
    assert answer.status_code == 403
    assert "clip.mp4" not in answer.text
    assert "open the one that" in error_of(answer)


def test_the_address_without_its_slash_leads_to_the_page(studio: Studio) -> None:
    client, _ = studio
    answer = client.get(f"http://{HOST}/{TOKEN}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, f"/{TOKEN}/")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:8766", "127.0.0.1.evil.example:8765", ""]
)
def test_a_foreign_host_is_refused(studio: Studio, host: str) -> None:
    client, _ = studio
    assert client.get("api/state", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", [HOST, "localhost:8765", "LOCALHOST:8765", "[::1]:8765"])
def test_names_of_this_machine_are_taken(studio: Studio, host: str) -> None:
    client, _ = studio
    assert client.get("api/state", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1:8765", "http://127.0.0.1:8766", "null"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_foreign_origin_is_refused(studio: Studio, origin: str, method: str) -> None:
    client, _ = studio
    answer = client.request(method, "api/policy", headers={"origin": origin}, json={})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_origin_is_taken_and_a_request_from_another_site_is_not(studio: Studio) -> None:
    client, _ = studio
    assert client.get("api/policy", headers={"origin": f"http://{HOST}"}).status_code == 200
    assert client.get("api/policy", headers={"origin": "http://localhost:8765"}).status_code == 403
    for site in ("cross-site", "same-site"):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}
        assert client.get("api/policy", headers=headers).status_code == 403
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("", headers=followed).status_code == 200


def test_no_page_elsewhere_may_read_an_answer(studio: Studio) -> None:
    client, _ = studio
    asked = {"origin": "http://evil.example", "access-control-request-method": "PUT"}
    answer = client.options("api/policy", headers=asked)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["", "page/main.js", "api/state", "api/videos/none", "nowhere"])
def test_every_answer_carries_the_headers(studio: Studio, path: str) -> None:
    client, _ = studio
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_all_addresses_take_any_ip_but_no_foreign_name() -> None:
    everywhere = Hosts("0.0.0.0", 80)  # noqa: S104 - this is what is tested
    assert "192.168.1.5:80" in everywhere
    assert "192.168.1.5" in everywhere
    assert "evil.example:80" not in everywhere
    assert [is_loopback(a) for a in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.5", "example.org")] == [  # noqa: S104
        True,
        True,
        True,
        False,
        False,
        False,
    ]


# ---------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "path",
    [
        "page/../security.py",
        "page/%2e%2e/security.py",
        "page/..%2f..%2fsession.py",
        "page//etc/passwd",
        "page/%2fetc%2fpasswd",
        "../../../etc/passwd",
        "api/videos/..%2f..%2fsecret.mp4",
        "api/videos/..%2fsecret.mp4/frames/0",
        "api/videos/secret.mp4/thumbnail",
        "api/jobs/..%2f..%2fsecret/video",
        "api/templates/..%2f..%2fx/picture",
        "page/index.html%00.js",
    ],
)
def test_no_path_leads_out(studio: Studio, path: str) -> None:
    client, _ = studio
    answer = client.get(f"http://{HOST}/{TOKEN}/{path}")
    assert answer.status_code in (403, 404, 422)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_what_leads_out_of_the_folder_is_not_there(folder: Path, studio: Studio) -> None:
    client, _ = studio
    (folder / "link.mp4").symlink_to(folder.parent / "secret.mp4")
    (folder / "up").symlink_to(folder.parent, target_is_directory=True)
    (folder / ".hidden.mp4").write_bytes((folder / "clip.mp4").read_bytes())
    (folder / "notes.txt").write_text("private")
    assert [clip["name"] for clip in client.get("api/videos").json()] == ["clip.mp4"]


def test_a_file_that_becomes_a_link_is_gone(folder: Path, studio: Studio) -> None:
    client, _ = studio
    (clip,) = client.get("api/videos").json()
    (folder / "clip.mp4").unlink()
    (folder / "clip.mp4").symlink_to(folder.parent / "secret.mp4")
    assert client.get(f"api/videos/{clip['id']}/frames/0").status_code == 404


def test_a_file_of_the_folder_is_never_deleted(folder: Path, studio: Studio) -> None:
    client, _ = studio
    (clip,) = client.get("api/videos").json()
    assert client.delete(f"api/videos/{clip['id']}").status_code == 403
    assert (folder / "clip.mp4").exists()


# ---------------------------------------------------------------------- uploads


def uploads(bench: Workbench) -> list[Path]:
    return sorted((bench.session.folder / "uploads").iterdir())


def test_an_upload_is_kept_private_and_can_be_deleted(folder: Path, studio: Studio) -> None:
    client, bench = studio
    data = (folder / "clip.mp4").read_bytes()
    answer = client.post("api/videos", params={"name": "../../my clip.mp4"}, content=data)
    assert answer.status_code == 201
    assert (answer.json()["name"], answer.json()["frames"]) == ("my clip.mp4", 3)
    (file,) = uploads(bench)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert client.delete(f"api/videos/{answer.json()['id']}").status_code == 204
    assert uploads(bench) == []


def test_a_large_upload_is_refused_before_and_while_it_comes(studio: Studio) -> None:
    client, bench = studio
    answer = client.post("api/videos", params={"name": "a.mp4"}, content=b"x" * 200_001)
    assert answer.status_code == 413
    assert "--upload-limit" in error_of(answer)

    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            yield b"x" * 1000

    # without a length that could be believed
    answer = client.post("api/videos", params={"name": "a.mp4"}, content=endless())
    assert answer.status_code == 413
    assert uploads(bench) == []


def test_an_upload_must_leave_room_on_the_disk(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    client, bench = studio
    monkeypatch.setattr(clips, "FREE_BYTES", 1 << 60)
    answer = client.post("api/videos", params={"name": "a.mp4"}, content=b"x" * 1000)
    assert answer.status_code == 413
    assert "no room" in error_of(answer)
    assert uploads(bench) == []


@pytest.mark.parametrize(
    "name", ["evil.html", "evil.svg", "clip", "clip.mp4.exe", "playlist.m3u8", ".mp4", "a.mp4/b.sh"]
)
def test_other_kinds_are_refused_by_their_name(folder: Path, studio: Studio, name: str) -> None:
    client, bench = studio
    answer = client.post("api/videos", params={"name": name}, content=(folder / "clip.mp4").read_bytes())
    assert answer.status_code == 415
    assert uploads(bench) == []


@pytest.mark.parametrize(
    "content", [b"<script>alert(1)</script>" * 50, b"", b"#EXTM3U\nfile:///etc/passwd\n", b"\0" * 5000]
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.png"])
def test_what_is_no_video_is_refused_and_nothing_is_left(studio: Studio, name: str, content: bytes) -> None:
    client, bench = studio
    answer = client.post("api/videos", params={"name": name}, content=content)
    assert answer.status_code == 422
    assert str(bench.session.folder) not in answer.text
    assert name in error_of(answer)
    assert uploads(bench) == []


def test_other_requests_are_small(studio: Studio) -> None:
    client, _ = studio
    answer = client.put("api/policy", content=b" " * (LARGEST_BODY + 1))
    assert answer.status_code == 413

    def parts() -> Iterator[bytes]:
        yield b"{}"

    assert client.put("api/policy", content=parts()).status_code == 411


# ---------------------------------------------------------------------- two at once, and the end


def test_of_two_windows_the_second_learns_of_the_first(studio: Studio) -> None:
    client, bench = studio
    other = TestClient(client.app, base_url=client.base_url)
    change = {"policy": {"attributes": ["hair"]}, "seen": 0}
    assert client.put("api/policy", json=change).json()["revision"] == 1
    answer = other.put("api/policy", json={"policy": {"attributes": ["face"]}, "seen": 0})
    assert answer.status_code == 409
    assert "another window" in error_of(answer)
    assert bench.session.policy[0].attributes == ("hair",)
    assert other.get("api/state").json()["policy"]["policy"]["attributes"] == ["hair"]
    change = {"policy": {"attributes": ["face"]}, "seen": 1}
    assert other.put("api/policy", json=change).json()["revision"] == 2


def test_the_folder_is_private_and_goes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seeing, "load", lambda _: None)
    with opened(folder) as (client, bench):
        private = bench.session.folder
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        client.post("api/videos", params={"name": "a.mp4"}, content=(folder / "clip.mp4").read_bytes())
        assert uploads(bench)
    assert not private.exists()


def test_what_a_killed_studio_left_is_swept_but_not_a_living_one(folder: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from anonymotion.studio.session import Options, Session\n"
        "session = Session(Options())\n(session.folder / 'private').write_text('x')\n"
        "sys.stdout.write(str(session.folder) + chr(10)); sys.stdout.flush(); time.sleep(60)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        first, second = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        assert first.exists()
        killed.kill()
        killed.wait()
        third = subprocess.run(
            [sys.executable, "-c", script.replace("time.sleep(60)", "session.close()")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert not first.exists()
        assert (second / "private").exists()
        assert not Path(third.stdout.strip()).exists()
        living.kill()
