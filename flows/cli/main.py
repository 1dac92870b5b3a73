"""The entry point: the commands, and how errors become messages and exit codes."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import traceback
from typing import Annotated

import typer

from embedders.errors import PolyvecError
from flows.cli import ask, handover, history, look, release, upkeep, work
from flows.cli.common import err, settings

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"polyvec {version('polyvec')}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and Prefect's log.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Text, images and graphs as versioned vectors in Parquet."""
    settings.debug = debug


for command in (
    work.init,
    work.plan,
    work.run,
    look.ls,
    look.show,
    look.files,
    history.log,
    history.diff,
    history.explain,
    release.releases,
    release.promote,
    release.rollback,
    upkeep.verify,
    upkeep.gc,
    look.schema,
    look.doctor,
    ask.search,
    ask.analogy,
    ask.recommend,
    handover.export,
):
    takes_ids = command in (ask.analogy, ask.recommend, ask.search, history.explain)  # and these may begin with a dash
    app.command(context_settings={"ignore_unknown_options": True} if takes_ids else {})(command)


def main() -> None:
    """Run the command line; exit codes: 0 done, 1 a space failed, 2 bad input or usage, 130 interrupted."""
    try:
        app(prog_name="polyvec")
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            err.print("interrupted; what was committed stays, and the next run goes on from there")
        raise
    except PolyvecError as error:
        if settings.debug:
            traceback.print_exc()
        err.print(f"error: {error}", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `polyvec ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if settings.debug:
            raise
        err.print(
            f"error: unexpected {type(error).__name__}: {error}. Run again with polyvec --debug, and report it.",
            markup=False,
            soft_wrap=True,
        )
        sys.exit(1)


def process() -> None:
    """The command line as a process of its own."""
    atexit.register(gc.freeze)  # or the interpreter looks once more through all of torch and Prefect as it ends
    main()


if __name__ == "__main__":
    process()
