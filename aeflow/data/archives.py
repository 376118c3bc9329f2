"""Archives, checked before they are read. Nothing is ever unpacked to disk.

Every archive ends up as a zip, which gives random access to its members: what is none becomes a
stored (uncompressed) zip whose bytes depend on the content alone. A folder of one's own stays
where it is, and is read like a zip.
"""

import hashlib
import lzma
import os
import re
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NoReturn, Self
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from aeflow.core.errors import DataError

Member = tuple[str, int, Iterable[bytes]]  # path, size in bytes, content

# The largest dataset of the study (OCT, 110,000 images) unpacks to about 6 GB.
MAX_UNPACKED_BYTES = 200 * 2**30
# Photographs hardly compress at all, raw black images about 100 times. Small archives are
# spared the check because a few text files can compress better than that.
MAX_RATIO = 200
RATIO_COUNTS_FROM_BYTES = 2**30
BLOCK_BYTES = 2**20
MAX_NAME_BYTES = 2**20  # of a tar's header that holds a long name, and is read at once

_METHODS = {ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA}
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)
# What damaged bytes make zipfile, tarfile and their decoders raise.
_DAMAGED = (
    *(OSError, EOFError, ValueError, IndexError, OverflowError, RuntimeError),
    *(BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
)


def archive_kind(path: Path) -> Literal["zip", "tar"]:
    """Tell by its first bytes what kind of archive a file is; a DataError if it is none."""
    try:
        with path.open("rb") as content:
            head = content.read(512)
    except OSError as error:
        _unreadable(error)
    if head.startswith(b"PK"):
        return "zip"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar":
        return "tar"
    raise DataError("the file is neither a zip nor a tar archive")


def is_hidden(path: str) -> bool:
    """Tell whether a path, or a folder it is in, is hidden or macOS's own bookkeeping."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def open_zip(path: Path) -> ZipFile:
    """Open a zip for reading after checking its table of contents.

    Raises:
        DataError: no readable zip; a member's path leaves the archive, is there twice, is a link,
            encrypted, or packed by an unknown method; or the archive is a bomb.
    """
    if not path.exists():
        raise DataError(f"{path} is missing: run the rule that makes it.")
    with _damage_named(f"{path} is no readable zip"):
        archive = ZipFile(path)
    try:
        seen: set[str] = set()
        for member in archive.infolist():
            # zipfile cuts a name at a NUL; the original would show another file than is read.
            _check_member(path, member.orig_filename, member, seen)
        _check_size(path, sum(member.file_size for member in archive.infolist()))
    except DataError:
        archive.close()
        raise
    return archive


class Folder:
    """A folder that is read like a zip: the methods of ZipFile that readers of members use.

    Hidden files are left out.

    Raises:
        DataError: a link or special file is inside, a file cannot be read or has a name that no
            archive could hold, nothing is inside.
    """

    def __init__(self, path: Path) -> None:
        self.filename = str(path)
        self._path = path
        self._members: dict[str, ZipInfo] = {}
        self._written: dict[str, tuple[int, int]] = {}  # times, ns
        for parent, folders, names in os.walk(path, onerror=_unreadable):
            folders[:] = [name for name in folders if not is_hidden(name)]
            for file in (Path(parent, name) for name in [*folders, *names] if not is_hidden(name)):
                self._add(file)
        if not self._members:
            raise DataError(f"The folder {path} holds no files.")

    def _add(self, file: Path) -> None:
        name, status = file.relative_to(self._path).as_posix(), file.lstat()
        if stat.S_ISREG(status.st_mode):
            if why := unsafe_name(name):
                raise DataError(f"{str(file)!r}: its name {why}. Rename it.")
            self._members[name] = ZipInfo(name)
            self._members[name].file_size = status.st_size
            # The second one too: who swaps two files, or copies with times, changes it alone.
            self._written[name] = (status.st_mtime_ns, status.st_ctime_ns)
        elif not stat.S_ISDIR(status.st_mode):
            raise DataError(f"{file} is a link or no regular file: replace it by a copy.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: no file is held open."""

    def namelist(self) -> list[str]:
        """Return the members' names, sorted."""
        return sorted(self._members)

    def infolist(self) -> list[ZipInfo]:
        """Return the members, sorted by name."""
        return [self._members[name] for name in self.namelist()]

    def getinfo(self, name: str) -> ZipInfo:
        """Return a member's name and size."""
        return self._members[name]

    def open(self, name: str) -> IO[bytes]:
        """Open a member for reading."""
        return (self._path / name).open("rb")

    def written(self, name: str) -> tuple[int, int]:
        """Return when a member's content, and when anything of it was last changed, ns."""
        return self._written[name]


Archive = ZipFile | Folder


def open_archive(path: Path) -> Archive:
    """Open a zip (`open_zip`) or a folder for reading."""
    return Folder(path) if path.is_dir() else open_zip(path)


def stamp(archive: Archive, names: Iterable[str] | None = None, said: str = "") -> str:
    """Return two digests, `<first>-<second>`, of some members, or of all, that know no place.

    The first one is of names and sizes, of a zip's members checksums too, and of what is said of
    them; the second of a folder's times, which a copy changes.
    """
    held, times = hashlib.sha256(said.encode()), hashlib.sha256()
    for name in sorted(archive.namelist() if names is None else names):
        member = archive.getinfo(name)
        held.update(f"{name}\0{member.file_size}\0{getattr(member, 'CRC', 0)}\0".encode())
        if isinstance(archive, Folder):
            times.update(f"{archive.written(name)}\0".encode())
    return f"{held.hexdigest()[:32]}-{times.hexdigest()[:32]}"


def content_digest(sha256: Mapping[str, str]) -> str:
    """Return a digest of files: name -> SHA-256."""
    listed = "".join(f"{name}\0{sha256[name]}\0" for name in sorted(sha256))
    return hashlib.sha256(listed.encode()).hexdigest()


def read_member(archive: Archive, name: str) -> bytes:
    """Return the bytes of a member; a DataError if it is damaged."""
    return b"".join(_member_blocks(archive, name))


def sha256_member(archive: Archive, name: str) -> str:
    """Return the SHA-256 of a member's bytes, read block by block; DataError: it is damaged."""
    digest = hashlib.sha256()
    for block in _member_blocks(archive, name):
        digest.update(block)
    return digest.hexdigest()


def store(archive: ZipFile, members: Iterable[Member], folder: str = "") -> int:
    """Store members uncompressed, with nothing in the zip that differs from run to run.

    They go below `folder`, "" for the top. Returns how many they are.
    """
    count = 0
    for name, size, blocks in members:
        member = ZipInfo(f"{folder}/{name}" if folder else name, _FIXED_DATE)
        member.create_system = 3  # Unix, wherever this runs
        member.external_attr = (stat.S_IFREG | 0o644) << 16
        member.file_size = size
        with archive.open(member, "w") as target:
            for block in blocks:
                target.write(block)
        count += 1
    return count


def file_member(path: Path, name: str) -> Iterator[Member]:
    """Yield a file as a member of this name; a DataError if it cannot be read."""
    try:
        content = path.open("rb")
    except OSError as error:
        _unreadable(error)
    with content:
        yield name, os.fstat(content.fileno()).st_size, _blocks(content)


def archive_members(path: Path) -> Iterator[Member]:
    """Yield the files of a zip, a tar (plain, gz, bz2, xz) or a folder.

    Raises:
        DataError: no readable archive; a member is damaged, its path leaves the archive or is
            there twice, it is a link, device or sparse file; or the archive is a bomb.
    """
    if not path.is_dir() and archive_kind(path) == "tar":
        yield from _tar_members(path)
        return
    with open_archive(path) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                name = member.filename
                yield name, member.file_size, _member_blocks(archive, name)


class _TarHeader(tarfile.TarInfo):
    """A header of a tar; one that announces a name without end is damaged."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if not (header.isreg() or header.isdir()) and header.size > MAX_NAME_BYTES:
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header


def _tar_members(path: Path) -> Iterator[Member]:
    seen: set[str] = set()
    unpacked = 0
    what = f"{path} is no readable tar"
    with _damage_named(what), tarfile.open(path, "r:*", tarinfo=_TarHeader) as tar:
        for member in tar:
            if member.isdir():
                continue
            name = member.name.removeprefix("./")
            _check_name(path, name, seen)
            if not member.isreg() or member.issparse():
                raise DataError(f"{path}: {name} is a link, device or sparse file, refused.")
            unpacked += member.size
            _check_size(path, unpacked)
            content = tar.extractfile(member)
            assert content is not None  # it is a regular file
            yield name, member.size, _blocks(content, what)


def _member_blocks(archive: Archive, name: str) -> Iterator[bytes]:
    what = f"{archive.filename}: {name} is damaged"
    with _damage_named(what), archive.open(name) as content:
        yield from _blocks(content, what)


def _blocks(content: IO[bytes], what: str = "A file cannot be read") -> Iterator[bytes]:
    with _damage_named(what):
        while block := content.read(BLOCK_BYTES):
            yield block


@contextmanager
def _damage_named(what: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:
            _unreadable(error)  # not damaged: a file that cannot be opened
        reason = str(error).split("\n")[0].rstrip(":.")
        raise DataError(f"{what} ({reason}), perhaps cut off: fetch it again.") from error


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error


def _check_member(path: Path, name: str, member: ZipInfo, seen: set[str]) -> None:
    _check_name(path, name, seen)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{path}: {name} is a link or device, refused.")
    if member.flag_bits & 0x1:
        raise DataError(f"{path}: {name} is encrypted: repack the archive without a password.")
    if member.compress_type not in _METHODS:
        raise DataError(
            f"{path}: {name} is packed by method {member.compress_type}, which Python cannot "
            "read: repack the archive with deflate."
        )


def unsafe_name(name: str) -> str | None:
    """Return why no file may be called so, None if it may."""
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):  # "" first: an absolute path
        return "leaves the folder it is in"
    if "\\" in name or re.match("[A-Za-z]:", name):
        return "has a backslash or a drive, a path of its own on Windows"
    if re.search("[\x00-\x1f\x7f]", name):
        return "has control characters"
    if re.search("[\ud800-\udfff]", name):
        return "is no UTF-8 text"
    return None


def _check_name(path: Path, name: str, seen: set[str]) -> None:
    if why := unsafe_name(name):
        raise DataError(f"{path}: the path {name!r} {why}, so the archive is refused.")
    if name in seen:
        raise DataError(f"{path}: {name} is there twice, so the archive is refused.")
    seen.add(name)


def _check_size(path: Path, unpacked: int) -> None:
    # The size on disk, not the sum over members: those of a bomb can overlap.
    ratio = unpacked / max(path.stat().st_size, 1)
    too_dense = unpacked > RATIO_COUNTS_FROM_BYTES and ratio > MAX_RATIO
    if too_dense or unpacked > MAX_UNPACKED_BYTES:
        raise DataError(
            f"{path} would unpack to {unpacked / 2**30:.1f} GiB, {ratio:.0f} times its size: "
            "refused, it looks like a decompression bomb."
        )
