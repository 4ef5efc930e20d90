"""Data sets: layouts in miniature, labels, splits, what is refused, and what a check says of a damaged copy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import miniatures
import pytest
from miniatures import MINIATURES, table
from synthetic import make_clip

from anonymotion.errors import DatasetError
from anonymotion.research.checks import check_dataset
from anonymotion.research.clips import read_clip
from anonymotion.research.datasets import Clip, Dataset, Split, open_dataset
from anonymotion.research.layouts.folds import nth_of_each


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One miniature of every data set, for tests that change nothing."""
    return {name: make(tmp_path_factory.mktemp(name) / "data") for name, make in MINIATURES.items()}


def opened(copies: dict[str, Path], name: str) -> Dataset:
    return open_dataset(name, copies[name])


@pytest.mark.parametrize("name", MINIATURES)
def test_every_clip_of_a_miniature_can_be_read_and_the_check_finds_nothing(copies: dict[str, Path], name: str) -> None:
    dataset = opened(copies, name)
    for clip in dataset.clips:
        frames = read_clip(clip, dataset.root)
        assert frames.shape[1:] == (48, 64, 3)
        if clip.last is not None:
            assert len(frames) == clip.last - clip.first
    report = check_dataset(dataset)
    assert report.problems == ()
    assert report.videos == len(dataset.videos)
    assert report.clips == len(dataset.clips)
    assert report.frames == sum(
        len(read_clip(Clip("x", v, 0, None, "", {}, "x"), dataset.root)) for v in dataset.videos
    )


@pytest.mark.parametrize("name", MINIATURES)
def test_parts_of_every_split_are_apart_and_every_test_class_trains(copies: dict[str, Path], name: str) -> None:
    dataset = opened(copies, name)
    assert dataset.splits
    for split in dataset.splits:
        assert split.train
        assert split.test
        assert not set(split.train) & set(split.test)
        assert dataset.split(split.name, split.task) is split
        for clip in map(dataset.clip, (*split.train, *split.validation, *split.test)):
            assert dataset.label_of(clip, split.task) in dataset.labels(split.task, split)


def test_weizmann_folds_hold_out_people_and_actions(copies: dict[str, Path]) -> None:
    dataset = opened(copies, "weizmann")
    tested: list[str] = []
    for fold in range(3):
        split = dataset.split(f"person-fold-{fold}", "action")
        people = [{dataset.clip(c).privacy["identity"] for c in part} for part in (split.train, split.validation)]
        out = {dataset.clip(c).privacy["identity"] for c in split.test}
        assert not out & (people[0] | people[1])
        assert not people[0] & people[1]
        tested += split.test
        by_action = dataset.split(f"identity-fold-{fold}", "identity")
        actions = {dataset.clip(c).action for c in (*by_action.train, *by_action.validation)}
        assert not actions & {dataset.clip(c).action for c in by_action.test}
    assert sorted(tested) == sorted(clip.id for clip in dataset.clips if "." not in clip.id)


def test_weizmann_windows_of_a_clip_are_apart_in_time(copies: dict[str, Path]) -> None:
    dataset = opened(copies, "weizmann")
    split = dataset.split("time-windows", "identity")
    for early, middle, late in zip(split.train, split.validation, split.test, strict=True):
        spans = [dataset.clip(name) for name in (early, middle, late)]
        assert spans[0].path == spans[2].path
        assert spans[0].last is not None
        assert spans[1].last is not None
        assert spans[0].first == 0
        assert spans[0].last < spans[1].first
        assert spans[1].last < spans[2].first
        assert spans[2].last == 20


def test_kth_spans_labels_and_splits(copies: dict[str, Path]) -> None:
    dataset = opened(copies, "kth")
    assert len(dataset.clips) == 15  # 2 people x 2 actions x 4, less the missing one
    assert any("15 clips of 600" in note for note in dataset.notes)
    clip = dataset.clip("person01_walking_d2")
    assert (clip.first, clip.last) == (1, 14)
    assert clip.path == Path("walking/person01_walking_d2_uncomp.avi")
    assert clip.privacy == {"identity": "person01"}
    paper, release = (dataset.split(name, "identity") for name in ("paper", "release"))
    assert (len(paper.train), len(paper.validation), len(paper.test)) == (8, 3, 4)
    assert (len(release.train), len(release.validation), len(release.test)) == (11, 0, 4)
    assert set(paper.test) == set(release.test)


def test_kth_without_its_list_takes_whole_files_and_says_so(tmp_path: Path) -> None:
    root = miniatures.kth(tmp_path / "kth", people=1, in_folders=False)
    (root / "00sequences.txt").unlink()
    dataset = open_dataset("kth", root)
    assert len(dataset.clips) == 8
    assert all((clip.first, clip.last) == (0, None) for clip in dataset.clips)
    assert "whole files" in dataset.notes[0]
    assert len(read_clip(dataset.clips[0], root)) == 16


def test_sbu_pairs_have_no_order_and_all_train(copies: dict[str, Path]) -> None:
    dataset = opened(copies, "sbu")
    assert dataset.labels("pair") == ("s01s02", "s01s03", "s03s04")
    assert dataset.labels("action") == ("01", "08")
    split = dataset.split("paper", "pair")
    assert {dataset.clip(c).privacy["pair"] for c in split.train} == set(dataset.labels("pair"))
    assert len(split.test) == 8 // 3 + 2 * (4 // 3)
    assert split.validation
    assert dataset.split("release", "pair").validation == ()
    assert len(read_clip(dataset.clips[0], dataset.root)) == 12  # and not the depth map


def test_ipn_gestures_classes_and_gender_per_video(copies: dict[str, Path]) -> None:
    dataset = opened(copies, "ipn")
    paper, release = (dataset.split(name, "action") for name in ("paper", "release"))
    assert dataset.labels("action", paper) == ("B0A", "G05")
    assert dataset.labels("action", release) == ("B0A", "D0X", "G05")
    clip = dataset.clip("1CM1_1_R_n200_000005")
    assert (clip.first, clip.last, clip.action) == (4, 9, "G05")
    gender = dataset.split("paper", "gender")
    assert len(gender.test) == 2  # videos, not gestures
    assert len(gender.train) + len(gender.validation) == 6
    people = [{dataset.clip(c).group.rpartition("_n")[0] for c in part} for part in (gender.train, gender.validation)]
    assert not people[0] & people[1]
    assert people[1]
    with pytest.raises(DatasetError, match="has no label 'action'"):
        dataset.label_of(dataset.clip(gender.test[0]), "action")


def test_folder_columns_become_labels_and_spans(copies: dict[str, Path]) -> None:
    dataset = opened(copies, "folder")
    assert dataset.tasks == ("action", "identity", "room")
    assert dataset.labels("room") == ("room0", "room1")
    assert (dataset.clips[0].first, dataset.clips[0].last) == (2, 8)
    assert dataset.clips[4].id == "clip_4"
    assert {split.name for split in dataset.splits} >= {"person-fold-0", "identity-fold-2", "room-fold-1"}


def test_folder_with_a_split_column_uses_it(tmp_path: Path) -> None:
    dataset = open_dataset("folder", miniatures.folder(tmp_path / "data", with_split=True))
    assert {split.name for split in dataset.splits} == {"listed"}
    split = dataset.split("listed", "identity")
    assert [len(part) for part in (split.train, split.validation, split.test)] == [3, 3, 3]
    report = check_dataset(dataset, quick=True)
    assert any("tests p1, of which nothing trains" in problem for problem in report.problems)


def test_nth_of_each_takes_the_last_of_every_step() -> None:
    clips = [Clip(f"{cell}{n}", Path(f"{cell}{n}"), 0, None, cell, {}, "g") for cell in "ab" for n in range(5)]
    assert nth_of_each(clips, lambda clip: clip.action, 3) == {"a2", "b2"}
    assert nth_of_each(clips, lambda clip: clip.action, 2) == {"a1", "a3", "b1", "b3"}


# What is refused


def test_wrong_names_and_folders(tmp_path: Path, copies: dict[str, Path]) -> None:
    with pytest.raises(DatasetError, match="'ucf' is not known: use one of ipn, sbu"):
        open_dataset("ucf", tmp_path)
    with pytest.raises(DatasetError, match="is not a folder"):
        open_dataset("kth", tmp_path / "nowhere")
    for name in MINIATURES:
        with pytest.raises(DatasetError):
            open_dataset(name, tmp_path)
    dataset = opened(copies, "weizmann")
    with pytest.raises(DatasetError, match=r"no split 'paper' of 'action': use one of person-fold-0 \(action\)"):
        dataset.split("paper", "action")
    with pytest.raises(DatasetError, match="has no clip 'nobody_bend'"):
        dataset.clip("nobody_bend")
    with pytest.raises(DatasetError, match="has a label 'gender': use one of action, identity"):
        dataset.labels("gender")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("file", "action")], "a header and no row"),
        ([("path", "action"), ("a.mp4", "run")], "no column 'file'"),
        ([("file", "action"), ("a.mp4", "")], "line 2: no action is given"),
        ([("file", "action"), ("a.mp4", "run", "more")], "line 2: 2 values were expected"),
        ([("file", "action", "first"), ("a.mp4", "run", "-3")], "first '-3' is not a whole number"),
        ([("file", "action", "first", "last"), ("a.mp4", "run", 5, 5)], "first < last"),
        ([("file", "action"), ("../a.mp4", "run")], "does not lie in the folder"),
        ([("file", "action"), ("a.mp4", "run"), ("a.mp4", "run")], "clips of one id"),
        ([("file", "action", "split"), ("a.mp4", "run", "dev")], "split 'dev' is not one of train"),
    ],
)
def test_a_list_that_is_wrong_is_named_with_its_line(
    tmp_path: Path, rows: list[tuple[object, ...]], message: str
) -> None:
    table(tmp_path / "labels.csv", rows)
    with pytest.raises(DatasetError, match=message):
        open_dataset("folder", tmp_path)


def test_lists_of_ipn_and_kth_are_checked(tmp_path: Path) -> None:
    root = miniatures.ipn(tmp_path / "ipn")
    (root / "annotations" / "metadata.csv").write_text("Video,Hand\nx,Right\n")
    with pytest.raises(DatasetError, match="no column Sex or Gender"):
        open_dataset("ipn", root)
    (root / "annotations" / "metadata.csv").write_text("Video,Sex\nx,W\n")
    with pytest.raises(DatasetError, match="has no row of 1CM1_1_R_#200"):
        open_dataset("ipn", root)
    (root / "annotations" / "Annot_TrainList.txt").write_text("a,G05,8,9,5,5\n")
    with pytest.raises(DatasetError, match="line 1: frames 9 to 5 are no span"):
        open_dataset("ipn", root)
    (root / "annotations" / "Annot_TrainList.txt").write_text("a,G05\n")
    with pytest.raises(DatasetError, match="line 1: video,label,id"):
        open_dataset("ipn", root)
    kth = tmp_path / "kth"
    kth.mkdir()
    (kth / "00sequences.txt").write_text("person01_boxing_d1\tframes\tall of it\n")
    with pytest.raises(DatasetError, match="line 1: spans of frames such as 1-95"):
        open_dataset("kth", kth)


def test_a_split_shares_no_clip_and_no_frame() -> None:
    clips = tuple(
        Clip(name, Path("v.mp4"), first, last, "run", {}, "v") for name, first, last in (("a", 0, 9), ("b", 8, None))
    )
    with pytest.raises(DatasetError, match="names a clip twice"):
        Split("s", "action", ("a",), (), ("a",))
    with pytest.raises(DatasetError, match=r"frames of v\.mp4 in two parts"):
        Dataset("x", Path(), clips, (Split("s", "action", ("a",), (), ("b",)),))
    with pytest.raises(DatasetError, match="names c, which is no clip"):
        Dataset("x", Path(), clips, (Split("s", "action", ("a",), (), ("c",)),))
    apart = (replace(clips[0], last=8), clips[1])
    assert Dataset("x", Path(), apart, (Split("s", "action", ("a",), (), ("b",)),)).videos == (Path("v.mp4"),)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 121])
def test_an_id_must_be_a_file_name(name: str) -> None:
    with pytest.raises(DatasetError, match="cannot be a file name"):
        Clip(name, Path("v.mp4"), 0, None, "run", {}, "v")


# What a check says


def test_a_damaged_copy_is_described_in_sentences(tmp_path: Path) -> None:
    root = miniatures.weizmann(tmp_path / "data")
    (root / "bend" / "ada_bend.avi").unlink()
    (root / "run" / "ben_run.avi").write_bytes(b"not a video")
    make_clip(root / "walk" / "cyn_walk.avi", frames=9, size=miniatures.SIZE)
    report = check_dataset(open_dataset("weizmann", root))
    assert report.missing == ("bend/ada_bend.avi",)
    assert report.unreadable == ("run/ben_run.avi",)
    text = "\n".join(report.problems)
    assert "bend/ada_bend.avi is missing" in text
    assert "run/ben_run.avi cannot be read" in text
    assert "clip cyn_walk.late ends at frame 20, and walk/cyn_walk.avi has 9" in text
    assert report.clips == 48  # what is missing still counts
    with pytest.raises(DatasetError, match="is not there"):
        read_clip(open_dataset("weizmann", root).clip("ada_bend"), root)
    with pytest.raises(DatasetError, match="do not belong together"):
        read_clip(open_dataset("weizmann", root).clip("cyn_walk.middle"), root)


def test_chance_is_the_share_of_the_most_frequent_tested_class(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("file", "action", "split")]
    rows += [(f"{n}.mp4", "run" if n % 4 else "sit", "test" if n >= 4 else "train") for n in range(8)]
    root = tmp_path / "data"
    table(root / "list.csv", rows)
    for n in range(8):
        shutil.copy(make_clip(tmp_path / "one.mp4", frames=1, size=miniatures.SIZE), root / f"{n}.mp4")
    (split,) = check_dataset(open_dataset("folder", root)).splits
    assert (split.train, split.validation, split.test, split.chance) == (4, 0, 4, 0.75)


@pytest.mark.shared
def test_real_copies_open_and_are_whole(shared: Path) -> None:
    weizmann = open_dataset("weizmann", shared / "data" / "weizmann")
    report = check_dataset(weizmann)
    assert (report.videos, report.frames, report.problems) == (90, 5855, ())
    assert [split.chance for split in report.splits[:3]] == [0.1] * 3
    kth = open_dataset("kth", shared / "data" / "kth_samples")
    assert [clip.id for clip in kth.clips] == ["person01_jogging_d3", "person01_walking_d1"]
    assert read_clip(kth.clips[1], kth.root).shape[1:] == (120, 160, 3)
