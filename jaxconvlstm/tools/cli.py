"""Command lines: flags from the configuration's fields, one-line errors, exit codes."""

import argparse
import contextlib
import dataclasses
import difflib
import errno
import functools
import inspect
import io
import os
import re
import sys
import traceback
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import tyro

from jaxconvlstm.config.data import Split
from jaxconvlstm.config.model import MODELS, ModelConfig
from jaxconvlstm.errors import (
    ConfigError,
    Interrupted,
    JaxConvLSTMError,
    describe_os_error,
    scarce_resource,
)
from jaxconvlstm.memory import keep_freed_memory
from jaxconvlstm.messages import printable, say

T = TypeVar("T")
_COMMAND = re.compile(r"python (?:\w+\.py|-m jaxconvlstm \w+)")


def peek(arguments: Sequence[str], *names: str) -> dict[str, str | None]:
    """The values of a few flags, read before all others because they say what the defaults are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        parser.add_argument(name, nargs="?")
    known, _ = parser.parse_known_args([a for a in arguments if a not in ("-h", "--help")])
    return {name: getattr(known, name.lstrip("-").replace("-", "_")) for name in names}


def as_started(text: str) -> str:
    """A text whose commands are those that fit how the program was started.

    In it stand `python train.py`, `python eval.py` and `python -m jaxconvlstm TOOL`, which are how
    a clone is used; where the package is installed, `jaxconvlstm TOOL` is there instead.
    """
    start = Path(sys.argv[0]).name
    if start in ("train.py", "eval.py"):
        return text
    program = "python -m jaxconvlstm" if start == "__main__.py" else "jaxconvlstm"
    text = re.sub(r"python (train|eval)\.py", rf"{program} \1", text)
    return text.replace("python -m jaxconvlstm", program)


def parse(kind: type[T], arguments: Sequence[str], default: T, description: str) -> T:
    """Parses flags into the dataclass `kind`; the help begins with `description`.

    Raises:
      ConfigError: one line with what is wrong, and the nearest flag for one that is unknown.
    """
    if "" in arguments:
        # An empty path would be the current folder: an unset variable of a shell, most likely.
        before = arguments[list(arguments).index("") - 1] if arguments[0] else "the first argument"
        raise ConfigError(f"{before}: expected a value, got an empty text")
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed, unknown = tyro.cli(
                kind,
                args=list(arguments),
                default=default,
                # Lines of one paragraph would be joined.
                description=as_started(re.sub(r"(?<!\n)\n(?=python )", "\n\n", description)),
                prog=as_started((_COMMAND.findall(description) or [sys.argv[0]])[0]),
                return_unknown_args=True,
                registry=_registry(),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(_one_line(complaint.getvalue())) from None
    if unknown:
        raise ConfigError(_unknown(unknown, kind))
    return parsed


@functools.cache
def model_flags() -> Any:
    """A dataclass of the settings of all architectures, so that `--help` lists every flag.

    Names, help texts and defaults are those of `config.model`. Where choices differ between
    architectures all are offered: `to_model` refuses those that the chosen one does not have.
    """
    choices: dict[str, dict[Any, None]] = {}
    defaults: dict[str, Any] = {}
    for kind in MODELS.values():
        for name, hint in typing.get_type_hints(kind).items():
            if typing.get_origin(hint) is Literal:
                choices.setdefault(name, {}).update(dict.fromkeys(typing.get_args(hint)))
                defaults.setdefault(name, getattr(kind, name))
    hints: dict[str, Any] = {name: Literal[tuple(values)] for name, values in choices.items()}
    described = "; ".join(f"{name}: {first_line(kind)}" for name, kind in MODELS.items())
    hints["model"] = Annotated[hints["model"], tyro.conf.arg(help=f"Architecture. {described}")]
    hints["layers"] = int
    return dataclasses.make_dataclass(
        "ModelFlags",
        [(name, hint, defaults[name]) for name, hint in hints.items()],
        bases=tuple(MODELS.values()),
        frozen=True,
        # The checks are those of the architecture that is chosen.
        namespace={"__post_init__": lambda self: None},
    )


def to_flags(model: ModelConfig) -> Any:
    """An architecture's settings among those of all."""
    return model_flags()(**{name: getattr(model, name) for name in model.names()})


def to_model(flags: Any) -> ModelConfig:
    """The architecture that flags describe.

    Raises:
      ConfigError: a value that it does not take, or a flag that has no effect on it.
    """
    model: ModelConfig = ModelConfig(**{name: getattr(flags, name) for name in flags.names()})
    return model


def first_line(documented: Any) -> str:
    """The first line of a docstring, without its full stop."""
    return (inspect.getdoc(documented) or " ").splitlines()[0].rstrip(".")


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Teaches tyro to read `--split train=0.8 val=0.1 test=0.1`."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def split_rule(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        if info.type is not Split:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="train=SHARE val=SHARE test=SHARE",
            instance_from_str=Split.parse,
            is_instance=lambda instance: isinstance(instance, Split),
            str_from_instance=lambda split: [
                f"{name}={share:g}" for name, share in dataclasses.asdict(split).items()
            ],
        )

    return registry


def _flags(kind: type) -> list[str]:
    names = []
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type) and field.type is not Split:
            names += _flags(field.type)  # type: ignore[arg-type]
        else:
            names.append("--" + field.name.replace("_", "-"))
    return names


def _unknown(unknown: Sequence[str], kind: type) -> str:
    first = unknown[0].partition("=")[0]
    near = difflib.get_close_matches(first, _flags(kind), 1)
    hint = f"; did you mean {near[0]}?" if near else "; --help lists all"
    return f"unknown {'flag' if first.startswith('-') else 'argument'} {first}{hint}"


def _one_line(text: str) -> str:
    """What tyro draws as a box, as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m|\[/?bold\]|-{9,}|[─-╿]", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"^(Parsing error|Value error|Error parsing|Invalid argument)[:\s]*", "", text)
    text = re.sub(r"^(Error parsing |Invalid choice (?=invalid choice))", "", text)
    return re.split(r" (?:Argument helptext:|For full helptext)", text)[0]


def run(main: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a script's `main` and exits with the right code; errors are one line.

    `--debug` adds the traceback.

    Raises:
      SystemExit: always; see `start.process` for how the process ends.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    keep_freed_memory()
    code = 0
    try:
        main(arguments)
    except (JaxConvLSTMError, Interrupted) as error:
        code = error.exit_code
        _complain(str(error), arguments)
    except KeyboardInterrupt:
        code = 130
        _complain("interrupted", arguments)
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; the rest of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        # A name that cannot be one was given by somebody; all else is about the disk.
        code = 2 if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else 6
        _complain(describe_os_error(error), arguments)
    except Exception as error:
        scarce = scarce_resource(error)
        if scarce is None:
            raise
        code = 6
        _complain(f"not enough {scarce}: {error}", arguments)
    sys.exit(code)


def _complain(message: str, arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()
    words = (word if len(word) <= 4096 else f"{word[:60]}…" for word in as_started(message).split())
    line = printable(" ".join(words))
    with contextlib.suppress(OSError):
        say(f"error: {line}", error=True)
