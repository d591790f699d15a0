"""Small tools: `python -m jaxconvlstm TOOL`."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.tools import cli

TOOLS = {
    "inspect": (
        "jaxconvlstm.tools.inspect.main",
        "describe data, warn of likely mistakes, draw pictures",
    ),
    "pathlist": ("jaxconvlstm.tools.pathlist", "write a path list of a folder of pictures"),
    "verify": ("jaxconvlstm.tools.verify", "whether every checkpoint of a run is whole"),
}

HELP = """Tools beside train.py and eval.py:

{tools}

python -m jaxconvlstm inspect --data DIR               # look at data before training
python -m jaxconvlstm pathlist --data DIR --out F.txt  # list windows, to edit by hand
python -m jaxconvlstm verify RUN                       # read every byte of a run's checkpoints
python -m jaxconvlstm TOOL --help                      # all flags of a tool

Exit codes: 0 done, 2 a flag, 3 the data, 4 a checkpoint, 6 disk or memory, 130 interrupted."""


def dispatch(arguments: Sequence[str]) -> None:
    """Runs the tool that the first argument names; without one, lists them.

    Raises:
      ConfigError: there is no such tool.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP.format(tools="\n".join(f"  {n:<10} {text}" for n, (_, text) in TOOLS.items())))
        return
    name, *rest = arguments
    if name not in TOOLS:
        near = difflib.get_close_matches(name, TOOLS, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(TOOLS)}"
        raise ConfigError(f"unknown tool {name}{hint}")
    sys.argv[0] = f"jaxconvlstm {name}"  # What its --help calls it.
    importlib.import_module(TOOLS[name][0]).main(rest)


def main() -> NoReturn:
    """The console script."""
    cli.run(dispatch)


if __name__ == "__main__":
    main()
