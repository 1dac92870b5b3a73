"""Which files a path, a folder or a glob of the pipeline file names."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from embedders.errors import InputError
from storage.digests import File, unreadable

Identity = tuple[int, int] | None
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def find_files(pattern: str, base: Path, suffixes: Sequence[str]) -> dict[str, File]:
    """Files that a path or glob names, in the order of their names: posix paths below the fixed part of the glob.

    A folder stands for all files below it that end in `suffixes`, but not behind links to other folders, which only
    globs follow. Hidden files are left out.

    Raises
    ------
    InputError : nothing matches, or a folder may not be read.
    """
    path = base.absolute() / Path(pattern).expanduser()
    parts = Path(pattern).expanduser().parts  # `base` is no pattern, whatever its folders are called
    names: Iterable[str]
    if path.is_dir():
        root, expected = path, f"files below it that end in {', '.join(suffixes)}"
        names = (n for n in _matching(path, ("**",), links=False) if n.lower().endswith(tuple(suffixes)))
    elif glob.has_magic(pattern) and not path.exists():
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root, expected = base.absolute().joinpath(*parts[:fixed]), "at least one file that matches"
        names = _matching(root, parts[fixed:], links=True)
    else:
        root, expected, names = path.parent, "a file, a folder or a glob", [path.name]
    folder = os.path.join(root, "")  # noqa: PTH118  (a Path has no slash at its end)
    looked = ((name, _look(folder + name)) for name in sorted(names))
    files = {name: file for name, file in looked if file}
    if not files:
        lack = "a folder without such files" if path.is_dir() else "where there is no such file"
        raise InputError(
            f"Got path {pattern!r} ({path}), {lack}; expected {expected}. Mend the path (it is relative to the pipeline file)."
        )
    for file in files.values():
        if not _is_text(file.path):
            raise InputError(f"Got the file name {file.path!r}, which is not UTF-8; expected text. Rename the file.")
    return files


def _matching(
    root: Path, parts: Sequence[str], name: str = "", *, links: bool, above: frozenset[Identity] = frozenset()
) -> Iterator[str]:
    """Names below `root` that the parts of a glob may stand for, as `glob` reads them; some come twice or do not exist.

    name : of the folder that the parts go on from, with a slash.
    links : whether `**` follows links to folders.
    above : the folders that `**` came through; it enters none of them again.
    """
    part, rest = parts[0], parts[1:]
    folder = root / name
    if part == "**":
        here = _identity(folder)
        if here in above:
            return
        yield from _matching(root, rest or ("*",), name, links=links)
        for child in _listed(folder, "*", folders=True, links=links):
            yield from _matching(root, parts, f"{name}{child}/", links=links, above=above | {here})
    elif rest:
        for child in _listed(folder, part, folders=True):
            yield from _matching(root, rest, f"{name}{child}/", links=links)
    else:
        yield from (name + child for child in _listed(folder, part))


def _listed(folder: Path, part: str, *, folders: bool = False, links: bool = True) -> list[str]:
    """Names in a folder that one part of a glob stands for: hidden ones only if it begins with a dot."""
    if not glob.has_magic(part):
        return [part]
    try:
        with os.scandir(folder) as entries:
            found = {e.name: e for e in entries if part.startswith(".") or not e.name.startswith(".")}
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return []
        raise unreadable(folder, error) from error  # nobody can say which files are lost
    return [name for name in fnmatch.filter(found, part) if not folders or _is_folder(found[name], links)]


def _is_folder(entry: os.DirEntry[str], links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=links)
    except OSError:  # a link to itself
        return False


def _identity(folder: Path) -> Identity:
    """What a folder is by whatever way it is reached; None when there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _look(path: str) -> File | None:
    """A file as it is; None when it is gone, a link that leads nowhere, or no regular file."""
    try:
        found = os.stat(path)  # noqa: PTH116  (making a Path takes as long as looking)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise unreadable(path, error) from error
    return File(path, found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
