"""Which video files a folder holds."""

import os
from pathlib import Path

from jaxconvlstm.data.pictures.listing import natural_key
from jaxconvlstm.data.pictures.picture_file import printable
from jaxconvlstm.data.video.video_file import EXTENSIONS
from jaxconvlstm.errors import DataError


def list_videos(root: Path) -> tuple[list[Path], list[str]]:
    """The video files at or below a folder, in natural order, and notes on what was left out.

    Links are followed, but each real folder is listed once, so that a link to a folder above ends,
    and each real file once. A file instead of a folder is all there is.

    Raises:
      DataError: the folder is missing or cannot be listed, or no video was found.
    """
    if root.exists() and not root.is_dir():
        return [root], []
    videos: list[Path] = []
    ignored: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        except OSError as error:
            raise DataError(f"{printable(folder)}: cannot be listed: {error.strerror}") from error
        folders = []
        for path in paths:
            if path.is_dir():
                if not path.name.startswith("."):
                    folders.append(path)
            elif not path.name.startswith(".") and path.suffix[1:].lower() in EXTENSIONS:
                videos.append(path)
            else:
                ignored.append(path)
        # Last in, first out: reversed, so that folders come in order.
        waiting += reversed(folders)
    if not videos:
        found = f" among {len(ignored)} files" if ignored else ""
        raise DataError(
            f"{printable(root)}: no videos{found}; accepted are .{', '.join(EXTENSIONS)}"
        )
    kept, repeated = _without_repeats(videos)
    kinds = {
        "files ignored that are no videos": ignored,
        "links to videos that are listed already, left out": repeated,
    }
    notes = [f"{kind}: {len(p)}, e.g. {printable(p[0])}" for kind, p in kinds.items() if p]
    return kept, notes


def _without_repeats(files: list[Path]) -> tuple[list[Path], list[Path]]:
    """Each real file once, so that no frame is both trained on and tested; and the other links."""
    taken = {Path(os.path.realpath(path)) for path in files if not path.is_symlink()}
    kept, repeated = [], []
    for path in files:
        # A link to itself has no real path; that it cannot be read is said later.
        real = Path(os.path.realpath(path))
        if path.is_symlink() and real in taken:
            repeated.append(path)
        else:
            kept.append(path)
            taken.add(real)
    return kept, repeated
