"""What a zip or tar file lists: where each picture lies in it, and WebDataset's sidecar files of labels.

An archive that is cut short or damaged is an error, since nobody can say which pictures are lost; a member that cannot
be read is an entry with a reason. Names are only names: nothing is ever written under them.
"""

from __future__ import annotations

import io
import posixpath
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

from embedders.errors import InputError
from embedders.image.opening import DecodeError
from storage.digests import File
from storage.inputs.images_place import DEFLATE, Entry, Place, open_same, stretch

_LOCAL = struct.Struct("<4s22xHH")
"""Before the bytes of a zip's member: the mark, and the lengths of the name and of the extra field that come after it
(PKWARE APPNOTE 6.3, section 4.3.7)."""
_MARK, _ENCRYPTED = b"PK\3\4", 0x1
_BLOCK = tarfile.BLOCKSIZE
_HOPS = 8


class Archive(NamedTuple):
    """pictures : in the archive's order. sidecars : the files that may hold labels, by name."""

    pictures: list[Entry]
    sidecars: dict[str, Entry]


def list_archive(container: File, pictures: tuple[str, ...], sidecars: tuple[str, ...]) -> Archive:
    """The members of an archive that end in one of the suffixes; hidden ones and those of macOS are left out.

    Raises
    ------
    InputError : it is damaged, or has changed since it was found.
    """
    found = Archive([], {})
    members = _zip if container.path.lower().endswith(".zip") else _tar
    with open_same(container) as file:
        for entry in members(file, container, (*pictures, *sidecars)):
            lower = entry.name.lower()
            if lower.endswith(pictures):
                found.pictures.append(entry)
            elif lower.endswith(sidecars):
                found.sidecars[entry.name] = entry
    return found


def _clean(name: str, container: File) -> str:
    """A member's name without the `./` that tar likes to put before it; "" for what is hidden."""
    while name.startswith("./"):
        name = name[2:]
    if any(part == "__MACOSX" or (part.startswith(".") and part not in {".", ".."}) for part in name.split("/")):
        return ""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"Got the member {name!r} of {container.path!r}, which is not UTF-8; expected text. Rename it."
        ) from None
    return name


def _broken(container: File, why: object) -> InputError:
    return InputError(
        f"Got {container.path!r}, which is no whole archive ({why}); nobody can say which pictures are lost. Copy it again."
    )


def _bad(name: str, why: str) -> Entry:
    return Entry(name, None, "broken_member", f"Got the member {name!r}, {why} Pack it again.")


# Zip


def _zip(file: io.FileIO, container: File, suffixes: tuple[str, ...]) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, OSError, ValueError) as error:
        raise _broken(container, error) from error
    found = []
    for member in members:
        name = _clean(member.filename, container)
        if not member.is_dir() and name.lower().endswith(suffixes):
            found.append(_zip_entry(file, container, name, member))
    yield from _apart(found)


def _zip_entry(file: io.FileIO, container: File, name: str, member: zipfile.ZipInfo) -> Entry:
    if member.flag_bits & _ENCRYPTED:
        return Entry(name, None, "encrypted_member", f"Got the member {name!r}, which is encrypted. Pack it without.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _bad(name, f"packed by method {member.compress_type}; expected stored (0) or deflated (8).")
    try:
        mark, *lengths = _LOCAL.unpack(stretch(file, member.header_offset, _LOCAL.size, name))
    except (DecodeError, OSError, ValueError):
        mark, lengths = b"", [0]
    offset = member.header_offset + _LOCAL.size + sum(lengths)
    if mark != _MARK or offset + member.compress_size > container.size:
        return _bad(name, "which does not lie where the archive says.")
    if member.compress_type == zipfile.ZIP_DEFLATED:
        place = Place(offset, member.compress_size, DEFLATE, member.file_size, 0, member.file_size)
    elif member.compress_size == member.file_size:
        place = Place.stored(offset, member.file_size)
    else:
        return _bad(name, f"stored in {member.compress_size:,} bytes instead of {member.file_size:,}.")
    return Entry(name, place, crc=member.CRC)


def _apart(entries: list[Entry]) -> list[Entry]:
    """Members that share bytes with another are refused: a small zip can so hold any number of large ones.

    (Fifield 2019, "A better zip bomb", WOOT.)
    """
    end, bad = -1, set()
    placed = [(entry.place.offset, entry.place.size, i) for i, entry in enumerate(entries) if entry.place]
    for offset, size, i in sorted(placed):
        if offset < end:
            bad.add(i)
        end = max(end, offset + size)
    return [
        _bad(entry.name, "which shares bytes with another.") if i in bad else entry for i, entry in enumerate(entries)
    ]


# Tar


def _tar(file: io.FileIO, container: File, suffixes: tuple[str, ...]) -> Iterator[Entry]:
    found: list[Entry] = []
    places: dict[str, Place] = {}
    links: dict[str, str] = {}
    for member in _members(file, container):
        name = _clean(member.name, container)
        if not name or member.isdir():
            continue
        if member.isreg() and not member.issparse():
            places[name] = Place.stored(member.offset_data, member.size)
        elif member.islnk():
            links[name] = _clean(member.linkname, container)
        elif member.issym():
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        if name.lower().endswith(suffixes):
            found.append(Entry(name, places.get(name)))
    yield from (entry if entry.place else _linked(entry.name, places, links) for entry in found)


def _linked(name: str, places: dict[str, Place], links: dict[str, str]) -> Entry:
    target = name
    for _ in range(_HOPS):
        if (place := places.get(target)) is not None:
            return Entry(name, place)
        target = links.get(target, "")
    return _bad(name, f"a link to {links[name]!r}, which the archive lacks." if name in links else "which is no file.")


def _members(file: io.FileIO, container: File) -> Iterator[tarfile.TarInfo]:
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or all are held
                size = member.size if member.isreg() else 0
                end = max(end, member.offset_data + size)
                yield member
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise _broken(container, error) from error
    if end > container.size:
        raise _broken(container, "its last member is cut short")
    file.seek(-(-end // _BLOCK) * _BLOCK)
    mark = file.read(_BLOCK)
    if mark != bytes(_BLOCK):  # tarfile takes the end of the file, and any damage between members, for the end
        raise _broken(container, f"its bytes after {end:,} are " + ("no member" if mark else "missing"))
