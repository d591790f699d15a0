"""Checkpoints: what is kept, what is best, and clear words when something does not fit."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from injection.damage import DAMAGES, flip

from jaxconvlstm import json_files
from jaxconvlstm.config.run import FORMAT_VERSION
from jaxconvlstm.errors import CheckpointError, ResourceError
from jaxconvlstm.runs import manifest
from jaxconvlstm.runs.checkpoint import Checkpoints
from jaxconvlstm.runs.folder import holds_run
from jaxconvlstm.runs.step_folders import step_folders
from jaxconvlstm.tools import verify


def items(step: int) -> dict[str, Any]:
    params = {"a": {"kernel": np.full((3, 4), step, np.float32)}, "b": np.arange(5, dtype=np.int32)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    return {
        "variables": {"params": params},
        "opt_state": optimizer.init({"w": np.ones(3, np.float32)}),
        "meta": {"format_version": FORMAT_VERSION, "step": step, "best": None},
        "data": {"next_index": step},
    }


def save(folder: Path, losses: dict[int, float | None]) -> None:
    with Checkpoints(folder, writable=True) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, items(step), loss)


def test_everything_comes_back(tmp_path: Path) -> None:
    save(tmp_path, {7: 0.5})
    with Checkpoints(tmp_path) as checkpoints:
        expected = {name: items(0)[name] for name in ("variables", "opt_state")}
        loaded = checkpoints.load(7, expected)
        np.testing.assert_array_equal(
            loaded["variables"]["params"]["a"]["kernel"], np.full((3, 4), 7)
        )
        assert type(loaded["opt_state"]) is type(expected["opt_state"])
        assert checkpoints.load_meta(7)["step"] == 7
        assert checkpoints.load_data(7) == {"next_index": 7}


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    save(tmp_path, {1: 5.0, 2: 1.0, 3: None, 4: 3.0, 5: 2.0, 6: None})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.choose("best") == 2
        assert checkpoints.choose("last") == 6
        assert checkpoints.choose("5") == 5
        with pytest.raises(CheckpointError, match="2, 5, 6"):
            checkpoints.choose("4")


def test_without_any_score_the_newest_is_the_best(tmp_path: Path) -> None:
    save(tmp_path, {1: None, 2: None})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.choose("best") == 2


def test_a_step_can_be_replaced(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, items(1), None)
        checkpoints.wait()
        checkpoints.save(1, items(9), 0.5)
        checkpoints.wait()
        loaded = checkpoints.load(1, {"variables": items(1)["variables"]})
        assert loaded["variables"]["params"]["a"]["kernel"][0, 0] == 9


def test_every_leaf_that_does_not_fit_is_named(tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    other = {"params": {"a": {"kernel": np.zeros((3, 5), np.float32)}, "c": np.zeros(2)}}
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as caught:
        checkpoints.load(1, {"variables": other})
    message = str(caught.value)
    for part in (
        "params/a/kernel: saved float32[3, 4], expected float32[3, 5]",
        "params/b: saved int32[5], expected nothing",
        "params/c: saved nothing, expected float64[2]",
    ):
        assert part in message


def test_another_format_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, {**items(1), "meta": {"format_version": 99}}, None)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="99"):
        checkpoints.load_meta(1)


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        Checkpoints(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_empty_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="no checkpoint"),
    ):
        checkpoints.choose()


def files_of(step: Path) -> list[Path]:
    return sorted(path for path in step.rglob("*") if path.is_file() and path.stat().st_size)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps, the second of which is the better one."""
    folder = tmp_path_factory.mktemp("whole")
    save(folder, {1: 0.5, 2: 0.4})
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_to_any_file_is_loaded(
    damage: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    files = [path.relative_to(whole) for path in files_of(whole / "2")]
    assert len(files) > 10
    for number, name in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        DAMAGES[damage](folder / name)
        unfinished = name.name == manifest.NAME and damage == "deleted"
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.choose("last") == checkpoints.choose("best") == 1, name
            assert unfinished or "step 2 is damaged" in capsys.readouterr().err
            with pytest.raises(CheckpointError, match="no step 2" if unfinished else "is damaged"):
                checkpoints.choose("2")


@pytest.mark.parametrize("unfinished", [False, True])
def test_the_number_of_a_lost_step_is_free_again(
    unfinished: bool, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    step = tmp_path / "copy" / "2"
    if unfinished:
        (step / manifest.NAME).unlink()
    else:
        (step / "data" / "data.json").write_text("{")
    with Checkpoints(tmp_path / "copy", writable=True) as checkpoints:
        assert checkpoints.steps() == [1]
        said = "was never finished being saved or removed; removed" if unfinished else "set aside"
        assert said in capsys.readouterr().err
        assert (tmp_path / "copy" / "2.damaged").is_dir() != unfinished
        checkpoints.save(2, items(2), 0.4)
        checkpoints.wait()
        assert checkpoints.choose("best") == 2


def test_what_a_kill_left_of_saving_and_removing_is_removed(tmp_path: Path) -> None:
    save(tmp_path, {1: 0.5, 2: 0.4, 3: 0.3, 4: 0.2})
    assert [path.name for path in step_folders(tmp_path)] == ["3", "4"]
    for step in ("2", "5"):  # the one was half removed, the other half saved
        shutil.copytree(tmp_path / "4", tmp_path / step)
        (tmp_path / step / manifest.NAME).unlink()
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        assert checkpoints.steps() == [3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_several_steps_without_a_manifest_are_not_touched(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    for step in ("1", "2"):
        (tmp_path / "copy" / step / manifest.NAME).unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=r"steps 1, 2 have no manifest"):
        Checkpoints(tmp_path / "copy", writable=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_with_every_step_damaged_loading_fails_and_nothing_changes(tmp_path: Path) -> None:
    save(tmp_path, {1: 0.5, 2: 0.4})
    for step in ("1", "2"):
        flip(files_of(tmp_path / step)[0])
    before = sorted(tmp_path.rglob("*"))
    for writable in (False, True):
        with (
            pytest.raises(CheckpointError, match=r"step \d is damaged .*; step \d is damaged"),
            Checkpoints(tmp_path, writable=writable) as checkpoints,
        ):
            checkpoints.choose("last")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_manifest_cannot_name_files_outside_its_step(tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    (tmp_path / "outside").write_text("x")
    contents = manifest.read(tmp_path / "1")
    contents["files"]["../outside"] = {"bytes": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    text = {"sha256": manifest._digest_of(contents), "contents": contents}
    (tmp_path / "1" / manifest.NAME).write_text(json.dumps(text))
    assert manifest.damage(tmp_path / "1") == ["../outside lies elsewhere"]
    (tmp_path / "2").symlink_to(tmp_path / "1")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [1]


def test_a_file_that_is_not_in_the_manifest_is_damage(tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    (tmp_path / "1" / "variables" / "more").write_text("x")
    assert manifest.damage(tmp_path / "1") == ["variables/more is not one of its files"]


def test_json_files_beyond_a_limit_are_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, {1: None})
    size = (tmp_path / "1" / "meta" / "data.json").stat().st_size
    for module in (manifest, json_files):
        monkeypatch.setattr(module, "LARGEST", size - 1)
    assert manifest.read(tmp_path / "1") == {}
    monkeypatch.setattr(manifest, "read", lambda step: contents)
    contents = json.loads((tmp_path / "1" / manifest.NAME).read_text())["contents"]
    assert f"meta/data.json has {size} bytes, of at most {size - 1}" in manifest.damage(
        tmp_path / "1"
    )


def test_arrays_beyond_all_memory_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    huge = {"w": jax.ShapeDtypeStruct((10**9, 10**9), np.float32)}
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match=r"would need 4000000000\.0 GB of memory"),
    ):
        checkpoints.load(1, {"variables": huge})


def test_pieces_larger_than_their_array_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, {1: None})
    with Checkpoints(tmp_path) as checkpoints:
        stored = checkpoints._metadata(1)
        kernel = stored["variables"]["params"]["a"]["kernel"]
        assert kernel.storage_metadata.chunk_shape == (3, 4)
        storage = dataclasses.replace(kernel.storage_metadata, chunk_shape=(3, 10**12))
        stored["variables"]["params"]["a"]["kernel"] = dataclasses.replace(
            kernel, storage_metadata=storage
        )
        monkeypatch.setattr(checkpoints, "_metadata", lambda step: stored)
        with pytest.raises(CheckpointError, match="pieces of absurd size"):
            checkpoints.load(1, {"variables": items(1)["variables"]})


@pytest.mark.parametrize("state", ["aside", "begun", "finished"])
def test_a_step_that_is_saved_again_is_there_until_its_successor_is(
    state: str, tmp_path: Path
) -> None:
    """As a kill leaves it: with nothing in the step's place, a part of it, or all of it."""
    folder = tmp_path / "checkpoints"
    save(folder, {1: 0.5})
    shutil.copytree(folder / "1", folder / "1.replaced")
    if state == "aside":
        shutil.rmtree(folder / "1")
    elif state == "begun":
        (folder / "1" / manifest.NAME).unlink()
    else:
        flip(files_of(folder / "1.replaced")[0])  # and so it is not the one that is kept
    assert holds_run(tmp_path)
    for writable in (False, True):
        with Checkpoints(folder, writable=writable) as checkpoints:
            assert checkpoints.choose("last") == checkpoints.choose("best") == 1
            checkpoints.load(1, {"variables": items(1)["variables"]})
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_other_files_among_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    save(tmp_path, {1: 0.5})
    others = ["notes", "notes.replaced", "01", "\u0661", "1.5", "-1"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "3").symlink_to(tmp_path / "1")
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        assert checkpoints.steps() == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["1", "3", *others])


@pytest.mark.parametrize("damage", ["flipped", "deleted"])
def test_a_best_step_whose_manifest_is_damaged_is_said_to_be(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save(tmp_path, {1: 0.1, 2: 0.3})
    DAMAGES[damage](tmp_path / "1" / manifest.NAME)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.choose("best") == 2
    said = capsys.readouterr().err
    expected = "1: left out, as it was not saved to the end" if damage == "deleted" else "damaged"
    assert expected in said


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"a\0b": {"bytes": 1, "sha256": "x"}}},
        {"files": {"meta/data.json": 1}},
        {"files": {"meta/data.json": {"sha256": "x"}}},
        {"files": []},
        {"leaves": {"variables": [1]}},
        {"leaves": 1},
        {"val_loss": "x"},
    ],
    ids=str,
)
def test_manifests_of_any_content_are_one_clear_line(change: dict, tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    contents = {**manifest.read(tmp_path / "1"), **change}
    text = {"sha256": manifest._digest_of(contents), "contents": contents}
    (tmp_path / "1" / manifest.NAME).write_text(json.dumps(text))
    with Checkpoints(tmp_path) as checkpoints:
        if "val_loss" in change:
            assert checkpoints.choose("best") == 1
            return
        with pytest.raises(CheckpointError, match="step 1 is damaged"):
            checkpoints.choose("best")


def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a disk of its own takes the right to mount one")
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    yield from small_disk(tmp_path / "disk", 4)


@pytest.mark.parametrize("free", [0, 20_000, 200_000])
def test_a_full_disk_takes_no_step_that_was_saved(disk: Path, free: int) -> None:
    large = items(2)
    large["variables"]["params"]["c"] = np.random.default_rng(0).random((600, 500))
    folder = disk / "run"
    save(folder, {1: 0.5})
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - free))
    with pytest.raises(ResourceError) as caught, Checkpoints(folder, writable=True) as checkpoints:
        checkpoints.save(2, large, 0.4)
        checkpoints.wait()
    message = str(caught.value)
    assert "a checkpoint needs up to 2.5 MB" in message and "steps that are saved: 1" in message
    assert [path.name for path in folder.iterdir()] == ["1"]
    filler.unlink()
    with Checkpoints(folder, writable=True) as checkpoints:
        assert checkpoints.choose("last") == 1
        checkpoints.save(2, large, 0.4)
        checkpoints.wait()
        assert checkpoints.choose("last") == 2


def test_a_full_disk_keeps_the_step_that_was_to_be_replaced(disk: Path) -> None:
    save(disk / "run", {1: 0.5})
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - 8192))
    with (
        pytest.raises(ResourceError, match="no space left"),
        Checkpoints(disk / "run", writable=True) as checkpoints,
    ):
        checkpoints.save(1, items(1), 0.4)
        checkpoints.wait()
    with Checkpoints(disk / "run") as checkpoints:
        assert checkpoints.choose("last") == 1 and checkpoints.val_loss(1) == 0.5


def test_the_manifest_says_what_was_saved(tmp_path: Path) -> None:
    save(tmp_path, {3: 0.25})
    contents = manifest.read(tmp_path / "3")
    assert contents["format_version"] == FORMAT_VERSION and contents["step"] == 3
    assert contents["leaves"]["variables"]["params/a/kernel"] == [[3, 4], "float32"]
    assert set(contents["files"]) == {
        str(path.relative_to(tmp_path / "3"))
        for path in (tmp_path / "3").rglob("*")
        if path.is_file() and path.name != manifest.NAME
    }
    path = tmp_path / "3" / manifest.NAME
    path.write_text(path.read_text().replace("0.25", "0.15"))
    assert manifest.read(tmp_path / "3") == {}  # its own digest tells that it was changed


def test_verify_names_the_state_of_every_step(tmp_path: Path, capsys: Any) -> None:
    save(tmp_path / "checkpoints", {1: 0.25, 2: None, 3: 0.5})
    verify.main([str(tmp_path)])
    assert capsys.readouterr().out.count(": whole, ") == 3
    flip(files_of(tmp_path / "checkpoints" / "2")[0])
    with pytest.raises(CheckpointError, match="1 of 3 steps"):
        verify.main([str(tmp_path)])
    (tmp_path / "checkpoints" / "1" / manifest.NAME).unlink()
    capsys.readouterr()
    with pytest.raises(CheckpointError, match="2 of 3 steps"):
        verify.main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 1: was never finished being saved"
    assert lines[1].startswith("step 2: damaged: ") and "validation loss 0.5" in lines[2]


def test_a_damaged_meta_is_one_clear_line(tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    for path in (tmp_path / "1" / "meta").rglob("*"):
        if path.is_file():
            path.write_text(json.dumps([1])[:2])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as caught:
        checkpoints.load_meta(1)
    assert "\n" not in str(caught.value)
