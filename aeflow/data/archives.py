"""Archives, checked before they are read. Nothing is ever unpacked to disk.

Every archive ends up as a zip, because a zip gives random access to its members: a folder or a
tar is packed into a stored (uncompressed) zip whose bytes depend on the content alone.
"""

import hashlib
import lzma
import os
import re
import stat
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from aeflow.core.errors import DataError

# The largest dataset of the study (OCT, 110,000 images) unpacks to about 6 GB.
MAX_UNPACKED_BYTES = 200 * 2**30
# Photographs hardly compress at all, raw black images about 100 times. Small archives are
# spared the check because a few text files can compress better than that.
MAX_RATIO = 200
RATIO_COUNTS_FROM_BYTES = 2**30
BLOCK_BYTES = 2**20

_DAMAGED = (
    BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    ValueError,
    IndexError,
    OverflowError,
    NotImplementedError,
)
_METHODS = {ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA}
_FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def open_zip(path: Path, max_bytes: int = MAX_UNPACKED_BYTES) -> ZipFile:
    """Open a zip for reading after checking its table of contents.

    Args:
        path: The zip.
        max_bytes: Limit of the unpacked size, bytes.

    Raises:
        DataError: no readable zip; a member's path leaves the archive, is there twice, is a link,
            encrypted, or packed by an unknown method; or the archive is a bomb.
    """
    try:
        archive = ZipFile(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the rule that makes it.") from error
    except (OSError, *_DAMAGED) as error:
        raise DataError(
            f"{path} is no readable zip ({error}), perhaps cut off: delete it and fetch it again."
        ) from error
    try:
        seen: set[str] = set()
        for member in archive.infolist():
            _check_zip_member(path, member, seen)
        unpacked = sum(member.file_size for member in archive.infolist())
        _check_size(path, unpacked, max_bytes)
    except DataError:
        archive.close()
        raise
    return archive


def read_member(archive: ZipFile, name: str) -> bytes:
    """Return the bytes of a member.

    Raises:
        DataError: the member is damaged.
    """
    with _damage_named(archive, name):
        return archive.read(name)


def sha256_member(archive: ZipFile, name: str) -> str:
    """Return the SHA-256 of a member's bytes, reading it block by block.

    Raises:
        DataError: the member is damaged.
    """
    digest = hashlib.sha256()
    with _damage_named(archive, name), archive.open(name) as content:
        while block := content.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _damage_named(archive: ZipFile, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, *_DAMAGED) as error:
        raise DataError(
            f"{archive.filename}: {name} is damaged ({error}). Fetch the archive again."
        ) from error


def pack_folder(folder: Path, target: Path) -> None:
    """Pack a folder into a stored zip: paths relative to it, sorted, dates fixed.

    Hidden files (`.DS_Store`, `.git`) and `__MACOSX` are left out.

    Raises:
        DataError: a link or special file is inside, a file cannot be read, nothing is inside.
    """
    files: list[tuple[str, Path]] = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not is_hidden(name)]
        for path in (Path(parent, name) for name in [*folders, *names] if not is_hidden(name)):
            name = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                _check_name(folder, name)
                files.append((name, path))
            elif not stat.S_ISDIR(mode):
                raise DataError(f"{path} is a link or no regular file: replace it by a copy.")
    if not files:
        raise DataError(f"The folder {folder} holds no files.")
    with ZipFile(target, "w") as archive:
        for name, path in sorted(files):
            try:
                content = path.open("rb")
            except OSError as error:
                _unreadable(error)
            with content:
                store_member(archive, name, os.fstat(content.fileno()).st_size, _blocks(content))


def archive_kind(path: Path) -> Literal["zip", "tar"]:
    """Tell by its first bytes what kind of archive a file is.

    Raises:
        DataError: neither a zip nor a tar.
    """
    with path.open("rb") as content:
        head = content.read(512)
    if head.startswith(b"PK"):
        return "zip"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar":
        return "tar"
    raise DataError("the file is neither a zip nor a tar archive")


def add_file(archive: ZipFile, source: Path, name: str) -> None:
    """Store a file as a member."""
    with source.open("rb") as content:
        store_member(archive, name, os.fstat(content.fileno()).st_size, _blocks(content))


def add_zip(archive: ZipFile, source: Path, folder: str) -> None:
    """Store the members of a zip below a folder ("": at the top).

    Raises:
        DataError: as `open_zip`, or a member is damaged.
    """
    with open_zip(source) as opened:
        for member in opened.infolist():
            if not member.is_dir():
                place = _below(folder, member.filename)
                store_member(archive, place, member.file_size, _member_blocks(opened, member))


def add_tar(
    archive: ZipFile, source: Path, folder: str, max_bytes: int = MAX_UNPACKED_BYTES
) -> None:
    """Store the files of a tar (plain, gz, bz2, xz) below a folder, one block at a time.

    Raises:
        DataError: no readable tar; a member's path leaves the archive, is there twice, or is a
            link, device or sparse file; or the archive is a bomb.
    """
    seen: set[str] = set()
    unpacked = 0
    try:
        with tarfile.open(source, "r:*") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if member.isdir():
                    continue
                _check_name(source, name, seen)
                if not member.isreg() or member.issparse():
                    raise DataError(f"{source}: {name} is a link, device or sparse file, refused.")
                unpacked += member.size
                _check_size(source, unpacked, max_bytes)
                content = tar.extractfile(member)
                assert content is not None  # it is a regular file
                store_member(archive, _below(folder, name), member.size, _blocks(content))
    except (OSError, *_DAMAGED) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of writing, such as a full disk; damaged gzip and bzip2 have no number
        reason = str(error).split("\n")[0].rstrip(":")
        raise DataError(f"{source} is no readable tar ({reason}), perhaps cut off.") from error


def _member_blocks(archive: ZipFile, member: ZipInfo) -> Iterator[bytes]:
    with _damage_named(archive, member.filename), archive.open(member) as content:
        while block := content.read(BLOCK_BYTES):
            yield block


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def is_hidden(path: str) -> bool:
    """Tell whether a path, or a folder it is in, is hidden or macOS's own bookkeeping."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _check_zip_member(path: Path, member: ZipInfo, seen: set[str]) -> None:
    # zipfile cuts a name at a NUL; the original would show another file than the one read.
    name = member.orig_filename
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


def _check_name(path: Path, name: str, seen: set[str] | None = None) -> None:
    parts = name.removesuffix("/").split("/")
    unsafe = (
        not name
        or any(part in ("", ".", "..") for part in parts)  # "" first: an absolute path
        or "\\" in name  # a separator on Windows
        or re.match("[A-Za-z]:", name)
        or re.search("[\x00-\x1f\x7f\ud800-\udfff]", name)  # control codes, no UTF-8
    )
    if unsafe:
        raise DataError(f"{path}: the path {name!r} is unsafe, so the archive is refused.")
    if seen is not None:
        if name in seen:
            raise DataError(f"{path}: {name} is there twice, so the archive is refused.")
        seen.add(name)


def _check_size(path: Path, unpacked: int, max_bytes: int) -> None:
    # The size on disk, not the sum over members: those of a bomb can overlap.
    ratio = unpacked / max(path.stat().st_size, 1)
    if unpacked > max_bytes or (unpacked > RATIO_COUNTS_FROM_BYTES and ratio > MAX_RATIO):
        raise DataError(
            f"{path} would unpack to {unpacked / 2**30:.1f} GiB, {ratio:.0f} times its size: "
            "refused, it looks like a decompression bomb."
        )


def _blocks(content: IO[bytes]) -> Iterator[bytes]:
    while block := content.read(BLOCK_BYTES):
        yield block


def store_member(archive: ZipFile, name: str, size: int, blocks: Iterable[bytes]) -> None:
    """Store a member uncompressed, with nothing in it that differs from run to run.

    Args:
        archive: open for writing.
        name: of the member.
        size: in bytes.
        blocks: its content.
    """
    member = ZipInfo(name, _FIXED_DATE)
    member.create_system = 3  # Unix, wherever this runs
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    member.file_size = size
    with archive.open(member, "w") as target:
        for block in blocks:
            target.write(block)


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error
