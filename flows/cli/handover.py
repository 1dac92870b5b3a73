"""Commands that hand vectors over: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import DEFAULT_FILE, File, Json, load_store, print_json, say, shown_board, size
from flows.cli.look import Reference

Format = Annotated[
    str, typer.Option("--format", help="parquet, word2vec, word2vec-bin, npy, tensorboard or csv.", metavar="FORMAT")
]
To = Annotated[Path, typer.Option("--to", help="A new or empty folder.", metavar="DIR")]


def export(reference: Reference, form: Format, to: To, file: File = DEFAULT_FILE, as_json: Json = False) -> None:
    """Write a version as files of other tools' formats."""
    from storage.export import export as write

    store = load_store(file)
    version = store.find(reference)
    name = f"{version.manifest.space} @ {version.number}"
    with shown_board() as board, board.step(f"export {name}") as progress:
        done = write(version, to, form, progress=progress)
    if as_json:
        m = version.manifest
        print_json({"space": m.space, "version": m.version, "rows": len(version), "dim": version.dim, "format": form, "folder": done.folder,
                    "files": done.files, "bytes": done.bytes, "encoded": done.encoded})  # fmt: skip
        return
    say(f"{name}: {len(version):,} vectors of {version.dim} numbers, {size(done.bytes)}, in {done.folder}")
    if done.encoded:
        say(
            f"{done.encoded:,} ids that {form} cannot carry as they are were percent-encoded; "
            "urllib.parse.unquote gives them back"
        )
