"""Public data: fetched once, checked, and never half there. From a server on this machine."""

import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data import download
from jaxconvlstm.data.dataset import guess_dataset, open_dataset
from jaxconvlstm.errors import ConfigError, DataError

pytest.importorskip("pooch")

CLIPS = np.random.default_rng(0).integers(0, 256, (20, 30, 64, 64), dtype=np.uint8)


class Server(http.server.ThreadingHTTPServer):
    """Serves one content under any name, and counts how often it was asked."""

    content, said_length, asked = b"", None, 0
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.goes_on = threading.Event()  # after half of the content
        self.goes_on.set()

    def handle_error(self, *_: object) -> None:
        """Whoever was asking is gone."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked += 1
        if not server.content:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(server.said_length or len(server.content)))
        self.end_headers()
        half = len(server.content) // 2
        self.wfile.write(server.content[:half])
        server.goes_on.wait()
        self.wfile.write(server.content[half:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of clips, which are the public data "clips" for the test."""
    path = tmp_path / "clips.npy"
    np.save(path, CLIPS)
    with Server() as server:
        server.content = path.read_bytes()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        md5 = hashlib.md5(server.content).hexdigest()
        url = f"{server.url}/data/mnist_test_seq.npy"
        monkeypatch.setitem(download.FILES, "clips", download.PublicFile(url, md5, "array"))
        monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path / "kept"))
        yield server
        server.goes_on.set()
        server.shutdown()


def kept(tmp_path: Path) -> list[str]:
    """Names of what lies in the folder of public data."""
    folder = tmp_path / "kept"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_places_and_checksums_are_those_of_torchvision() -> None:
    assert download.FILES == {
        "mnist": (
            "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "moving-mnist",
        ),
        "moving-mnist-test": (
            "http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy",
            "be083ec986bfe91a449d63653c411eb2",
            "array",
        ),
    }
    assert tuple(download.FILES) == ("mnist", "moving-mnist-test")
    assert [guess_dataset(name) for name in download.FILES] == ["moving-mnist", "array"]


def test_a_file_is_fetched_once_and_checked(server, tmp_path, capsys) -> None:
    path = Path(download.resolve("clips"))
    assert path == tmp_path / "kept" / "mnist_test_seq.npy"
    assert path.read_bytes() == server.content
    output = capsys.readouterr()
    assert output.out == f"clips: downloading {server.url}/data/mnist_test_seq.npy\n"
    assert output.err == ""
    assert download.resolve("clips") == str(path)
    assert server.asked == 1 and capsys.readouterr().out == ""
    # One that was damaged since is fetched anew.
    path.write_bytes(b"something else")
    assert Path(download.resolve("clips")).read_bytes() == server.content
    assert server.asked == 2
    assert kept(tmp_path) == ["mnist_test_seq.npy"]


def test_progress_is_a_line_every_few_seconds(server, monkeypatch, capsys) -> None:
    monkeypatch.setattr(download, "REPORT_EVERY", 0.0)
    download.resolve("clips")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "clips: 0 of 2 MB" and lines[-1] == "clips: 2 of 2 MB"
    assert len(lines) == 1 + -(-len(server.content) // 2**16)  # One for each piece.


def test_a_path_that_is_there_wins(server, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    assert download.resolve("clips") == "clips"
    assert guess_dataset("clips") == "folder"
    assert download.resolve("elsewhere/clips.npy") == "elsewhere/clips.npy"
    assert server.asked == 0


def test_another_file_than_the_known_one_is_not_kept(server, tmp_path) -> None:
    server.content = server.content[:-1] + b"x"
    with pytest.raises(DataError, match="is not the file with the checksum") as caught:
        download.resolve("clips")
    assert str(tmp_path / "kept" / "mnist_test_seq.npy") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("fault", ["refused", "missing", "cut short"])
def test_what_to_do_without_the_internet(server, tmp_path, fault) -> None:
    if fault == "refused":
        server.shutdown()
        server.server_close()
    elif fault == "missing":
        server.content = b""
    else:
        server.said_length = 2 * len(server.content)
    wanted = "no connection to 127.0.0.1" if fault == "refused" else "cannot be downloaded: "
    with pytest.raises(DataError, match=f"--data clips: {wanted}") as caught:
        download.resolve("clips")
    url, place = f"{server.url}/data/mnist_test_seq.npy", tmp_path / "kept" / "mnist_test_seq.npy"
    assert f"download {url} by hand to {place}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert kept(tmp_path) == []


def test_put_there_by_hand_it_needs_no_internet(server, tmp_path) -> None:
    server.shutdown()
    server.server_close()
    path = tmp_path / "kept" / "mnist_test_seq.npy"
    path.parent.mkdir()
    path.write_bytes(server.content)
    path.parent.chmod(0o500)
    try:
        assert download.resolve("clips") == str(path)
    finally:
        path.parent.chmod(0o700)


def test_no_room_names_the_folder(server, tmp_path, monkeypatch) -> None:
    (tmp_path / "kept").write_text("a file, where a folder should be")
    with pytest.raises(DataError, match=r"clips: cannot be kept in .*kept: .*JAXCONVLSTM_DATA"):
        download.resolve("clips")
    # A file system that is always full.
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path / "other"))
    monkeypatch.setattr("tempfile.NamedTemporaryFile", full_disk)
    with pytest.raises(DataError, match=r"cannot be kept in .*other: No space left on device"):
        download.resolve("clips")


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_killed_download_never_counts_as_whole(server, tmp_path) -> None:
    server.goes_on.clear()
    file = download.FILES["clips"]
    program = (
        "from jaxconvlstm.data import download\n"
        f"download.FILES['clips'] = download.PublicFile({file.url!r}, {file.md5!r}, 'array')\n"
        "download.resolve('clips')\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL) as child:
        while not any(path.stat().st_size for path in tmp_path.glob("kept/*")):
            assert child.poll() is None
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
    assert kept(tmp_path) and "mnist_test_seq.npy" not in kept(tmp_path)
    server.goes_on.set()
    assert Path(download.resolve("clips")).read_bytes() == server.content


def test_without_pooch_it_is_named(server, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match="pip install pooch"):
        download.resolve("clips")


def test_the_test_clips_by_name(server) -> None:
    data = open_dataset(DataConfig("array", data="clips", input_frames=10, target_frames=10), 0)
    assert f"{CLIPS.shape[1]} sequences, 600 frames of 64x64x1 uint8" in data.notes[-1]
    assert any("[20, 30, 64, 64] read as TNHW" in note for note in data.notes)
    inputs, targets = data.windows("all").read(0, 7)
    np.testing.assert_array_equal(np.concatenate([inputs, targets])[..., 0], CLIPS[:, 7])


@pytest.mark.parametrize(
    "name, shape, dtype",
    [
        ("other.npy", (20, 30, 64, 64), "uint8"),
        ("mnist_test_seq.npy", (20, 30, 64, 60), "uint8"),
        ("mnist_test_seq.npy", (30, 20, 64, 64), "uint8"),
        ("mnist_test_seq.npy", (20, 30, 64, 64), "float32"),
    ],
)
def test_only_the_well_known_file_has_known_axes(tmp_path, name, shape, dtype) -> None:
    np.save(tmp_path / name, np.zeros(shape, dtype))
    with pytest.raises(DataError, match="unclear what the axes are"):
        open_dataset(DataConfig("array", data=str(tmp_path / name)), 0)


def test_clips_are_no_digits(tmp_path) -> None:
    path = tmp_path / "mnist_test_seq.npy"
    np.save(path, CLIPS)
    with pytest.raises(DataError, match="which may be clips: --dataset array reads those"):
        open_dataset(DataConfig("moving-mnist", data=str(path)), 0)
    # What the user says counts.
    asked = DataConfig("array", data=str(path), axes="NTHW", input_frames=10, target_frames=10)
    assert "20 sequences, 600 frames" in open_dataset(asked, 0).notes[-1]


def test_another_kind_of_data_than_asked_for(server) -> None:
    with pytest.raises(ConfigError, match=r"--data clips: these .* read as --dataset array"):
        open_dataset(DataConfig("moving-mnist", data="clips"), 0)
    assert server.asked == 0
