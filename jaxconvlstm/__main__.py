"""The installed command: `jaxconvlstm TOOL`, or `python -m jaxconvlstm TOOL`."""

import difflib
import importlib
from collections.abc import Sequence
from typing import NoReturn

from jaxconvlstm import __version__
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.messages import say
from jaxconvlstm.tools import start

TOOLS = {
    "train": ("train", "train a model on pictures, arrays or videos"),
    "eval": ("eval", "score a trained model, or predict the frames that come next"),
    "inspect": ("inspect.main", "describe data, warn of likely mistakes, draw pictures"),
    "pathlist": ("pathlist", "write a path list of a folder of pictures"),
    "verify": ("verify", "read every byte of a run's checkpoints"),
}
"""Module below `jaxconvlstm.tools` and description of each tool."""

HELP = """Predict images from images with ConvLSTM networks.

{tools}

python -m jaxconvlstm inspect --data DIR               # look at data before training
python -m jaxconvlstm train --data DIR --out RUN       # train a model
python -m jaxconvlstm eval RUN                         # score it on data it never saw
python -m jaxconvlstm pathlist --data DIR --out F.txt  # list windows, to edit by hand
python -m jaxconvlstm verify RUN
python -m jaxconvlstm TOOL --help                      # all flags of a tool
python -m jaxconvlstm --version

Exit codes: 0 done, 2 a flag, 3 the data, 4 a checkpoint, 5 a number that is not finite,
6 disk or memory, 130 interrupted, 143 terminated."""


def dispatch(arguments: Sequence[str]) -> None:
    """Runs the tool that the first argument names; without one, lists them.

    Raises:
      ConfigError: there is no such tool.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        listed = "\n".join(f"  {name:<10} {text}" for name, (_, text) in TOOLS.items())
        from jaxconvlstm.tools.cli import as_started

        say(as_started(HELP.format(tools=listed)))
        return
    name, *rest = arguments
    if name == "--version":
        say(f"jaxconvlstm {__version__}")
        return
    if name not in TOOLS:
        near = difflib.get_close_matches(name, TOOLS, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(TOOLS)}"
        raise ConfigError(f"unknown tool {name}{hint}")
    importlib.import_module(f"jaxconvlstm.tools.{TOOLS[name][0]}").main(rest)


def main() -> NoReturn:
    """The console script."""
    start.command("__main__", "dispatch")


if __name__ == "__main__":
    main()
