"""Classes by folder: every class in every part, and a class as what a window is to predict."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.data.dataset import open_dataset
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.loader import evaluation_batches
from jaxconvlstm.data.sources.base import Frames, stack
from jaxconvlstm.errors import DataError

CONFIG = DataConfig(
    dataset="folder", data="clips", labels="folders", input_frames=4, target_frames=3
)


class FramesInFolders(Frames):
    """Sequences named by their folders; the value of a frame says which it is."""

    def __init__(self, sequences: dict[str, int], parts=None):
        super().__init__()
        self.names, self.lengths = list(sequences), list(sequences.values())
        self.folders = [tuple(name.split("/")[:-1]) for name in self.names]
        self.frame_shape, self.dtype = (4, 6, 1), np.dtype(np.float32)
        self.splits = parts

    def read(self, sequence, frames, region=None):
        one = np.ones(self.frame_shape, self.dtype)
        return stack((one * (100 * sequence + frame) for frame in frames), region)


def clips(length: int = 6, **counts: int) -> dict[str, int]:
    """E.g. `clips(cats=2)`: cats/0 and cats/1."""
    return {f"{name}/{n}": length for name, count in counts.items() for n in range(count)}


def dataset(sequences: dict[str, int], parts=None, split=None, classes=None, **settings):
    settings = {"value_range": (0.0, 1e4), **settings}
    frames = FramesInFolders(sequences, parts)
    return FramesDataset(
        dataclasses.replace(CONFIG, **settings), frames, split=split, classes=classes
    )


def per_class(data: FramesDataset, split: str) -> list[int]:
    """Number of sequences of each class in a part."""
    sequences = {segment.sequence for segment in data.splits[split]}
    return np.bincount(data.labels[list(sequences)], minlength=len(data.classes)).tolist()


def test_the_class_is_the_folder_and_classes_are_in_order_of_their_names() -> None:
    data = dataset(clips(dogs=4, ants=3, cats=5))
    assert data.classes == ("ants", "cats", "dogs")
    assert data.labels.tolist() == [2] * 4 + [0] * 3 + [1] * 5
    assert data.labels.dtype == np.int32
    assert "3 classes, in sequences: ants 3, cats 5, dogs 4" in data.notes


def test_windows_have_input_frames_and_a_label() -> None:
    data = dataset(clips(dogs=4, ants=4), split=None, frame_step=2, input_frames=3)
    windows = data.windows("all", target_frames=9)
    # Five frames of six for three at a step of two; no room for targets is needed.
    assert len(windows) == 16
    inputs, label = windows.read(0, 9, (slice(0, 2), slice(1, 4)))
    assert inputs.shape == (3, 2, 3, 1)
    assert inputs[:, 0, 0, 0].tolist() == [401, 403, 405]
    assert (label.shape, label.dtype, int(label)) == ((), np.int32, 0)
    assert windows.name(9) == "ants/0 frames 1-5"
    (batch,) = evaluation_batches(data.windows("test"), 9, threads=1)
    assert batch.targets.tolist() == [1, 1, 0, 0]
    assert batch.weight.shape == (4,)


@pytest.mark.parametrize("by", ["auto", "sequence"])
def test_every_class_is_in_every_part(by: str) -> None:
    # In one heap, the first ones would be for training: not a single ant.
    data = dataset(clips(dogs=40, cats=10, ants=3), split_by=by)
    assert per_class(data, "train") == [1, 8, 32]
    assert per_class(data, "val") == per_class(data, "test") == [1, 1, 4]
    frames = [s.sequence for part in data.splits.values() for s in part]
    assert len(frames) == len(set(frames)) == 53


def test_long_sequences_are_held_out_whole_where_each_part_gets_one() -> None:
    data = dataset(clips(30, cats=3, dogs=4))
    assert [per_class(data, part) for part in data.splits] == [[1, 2], [1, 1], [1, 1]]
    assert all(s.stop - s.start == 30 for part in data.splits.values() for s in part)


def test_a_class_with_few_sequences_is_divided_in_time() -> None:
    data = dataset({**clips(cats=5), "dogs/0": 30, "dogs/1": 30})
    assert per_class(data, "train") == [3, 2]
    assert all(per_class(data, part)[1] for part in ("val", "test"))
    dogs = [
        (s.sequence, frame)
        for part in data.splits.values()
        for s in part
        for frame in range(s.start, s.stop)
        if s.sequence > 4
    ]
    assert len(dogs) == len(set(dogs)) == 60
    assert per_class(dataset(clips(12, cats=5, dogs=5), split_by="time"), "train") == [5, 5]


@pytest.mark.parametrize(
    "sequences, settings, message",
    [
        (clips(cats=9, dogs=2), {}, "class dogs: 12 frames leave no window for val"),
        (clips(cats=9, dogs=2), {"split_by": "sequence"}, "class dogs: .* 3 sequences of 4 frames"),
        (clips(3, cats=9, dogs=9), {}, "4 input frames need 4"),
        ({**clips(cats=9), "dogs/0": 3}, {}, "class dogs: 3 frames leave no window"),
    ],
)
def test_a_class_that_has_too_few_sequences_is_named(sequences, settings, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        dataset(sequences, **settings).windows("train")
    assert str(caught.value).startswith("clips: ")


def test_parts_by_folder_hold_the_classes() -> None:
    sequences = {
        f"{part}/{name}": 6
        for part in ("train", "val", "test")
        for name in clips(cats=2, dogs=1)
    }  # fmt: skip
    parts = [name.split("/")[0] for name in sequences]
    data = dataset(sequences, parts)
    assert data.classes == ("cats", "dogs")
    assert all(per_class(data, part) == [2, 1] for part in ("train", "val", "test"))
    # A part without a folder is divided from training, class by class.
    sequences = {f"train/{name}": 6 for name in clips(cats=4, dogs=3)} | {"test/cats/9": 6}
    data = dataset(sequences, ["train"] * 7 + ["test"])
    assert [per_class(data, part) for part in data.splits] == [[3, 2], [1, 1], [1, 0]]


def test_a_class_that_nothing_is_trained_on_is_refused() -> None:
    sequences = {f"train/{name}": 6 for name in clips(cats=3, dogs=3)}
    sequences |= {"val/cats/8": 6, "test/owls/9": 6}
    with pytest.raises(DataError, match="class owls: none of it is for training"):
        dataset(sequences, ["train"] * 6 + ["val", "test"]).windows("train")


def test_sequences_without_a_folder_have_no_class() -> None:
    with pytest.raises(DataError, match="loose lies in no folder that names its class"):
        dataset({**clips(cats=3), "loose": 6})
    with pytest.raises(DataError, match="train/loose lies in no folder below train that"):
        dataset({"train/cats/1": 6, "train/loose": 6, "test/cats/2": 6})
    with pytest.raises(DataError, match="a single class, cats; expected two"):
        dataset(clips(cats=9))


def test_labels_index_into_the_classes_that_a_model_knows() -> None:
    known = ("dogs", "owls", "cats")
    data = dataset(clips(cats=2, dogs=1), classes=known)
    assert data.classes == known
    assert data.labels.tolist() == [2, 2, 0]
    assert [int(data.windows("all").read(0, i)[1]) for i in (0, 8)] == [2, 0]
    # One class alone can be scored, if the model knows it.
    assert dataset(clips(cats=2), classes=known).labels.tolist() == [2, 2]
    with pytest.raises(DataError, match="clips: folder ants: no class that the model knows; those"):
        dataset(clips(ants=3, cats=3), classes=known)


def test_a_recorded_split_stays_where_it_was() -> None:
    before = dataset(clips(cats=4, dogs=4))
    record = json.loads(json.dumps(before.split_record()))
    # Windows keep their numbers, which the order of training is of.
    assert dataset(clips(cats=4, dogs=4), split=record).splits == before.splits
    mixed = {"dogs/1": 6, "cats/1": 6, "dogs/2": 6, "cats/2": 6, "cats/3": 6, "dogs/3": 6}
    fresh = dataset(mixed, split_by="sequence")
    assert dataset(mixed, split=fresh.split_record()).splits == fresh.splits
    # New sequences belong to no part, and move none.
    after = dataset(clips(cats=9, dogs=4), split=record, classes=before.classes)
    for part in ("train", "val", "test"):
        names = [[d.frames.names[s.sequence] for s in d.splits[part]] for d in (before, after)]
        assert names[0] == names[1]


def test_all_for_test() -> None:
    frames = FramesInFolders(clips(cats=2, dogs=2))
    all_test = dataclasses.replace(CONFIG, split=Split(0, 0, 1), value_range=(0.0, 1e4))
    assert len(FramesDataset(all_test, frames).windows("test")) == 12


def write_clips(root: Path, kind: str) -> Path:
    """Clips of 6 frames of two classes, three each; a cat's are bright."""
    generator = np.random.default_rng(0)
    for name, low in (("cats", 200), ("dogs", 0)):
        for number in range(3):
            clip = generator.integers(low, low + 50, (6, 8, 8), dtype=np.uint8)
            if kind == "array":
                (root / name).mkdir(parents=True, exist_ok=True)
                np.save(root / name / f"{number}.npy", clip)
                continue
            folder = root / name / f"clip{number}"
            folder.mkdir(parents=True)
            for index, frame in enumerate(clip):
                Image.fromarray(frame).save(folder / f"{index}.png")
    return root


@pytest.mark.parametrize("kind", ["folder", "array"])
def test_files_in_folders(tmp_path: Path, kind: str) -> None:
    config = dataclasses.replace(
        CONFIG, dataset=kind, data=str(write_clips(tmp_path / "clips", kind))
    )
    data = open_dataset(config, 0)
    assert data.classes == ("cats", "dogs")
    for part in ("train", "val", "test"):
        windows = data.windows(part)
        assert len(windows) == 6
        for index in range(6):
            inputs, label = windows.read(0, index)
            assert (inputs.mean() > 150) == (label == 0)
            assert windows.name(index).startswith(data.classes[int(label)])


def test_data_without_folders_are_told_so(tmp_path: Path) -> None:
    root = write_clips(tmp_path / "clips", "folder")
    paths = " ".join(str(root / "cats" / "clip0" / f"{n}.png") for n in range(6))
    (tmp_path / "list.txt").write_text(f"{paths}\n")
    config = dataclasses.replace(CONFIG, data=str(tmp_path / "list.txt"))
    with pytest.raises(
        DataError, match=r"list\.txt: --labels folders: these sequences lie in no f"
    ):
        open_dataset(config, 0)
    memory = dataclasses.replace(CONFIG, dataset="array", data=None)
    with pytest.raises(DataError, match="lies in no folder"):
        open_dataset(memory, 0, data=np.zeros((3, 6, 8, 8, 1), np.uint8))
