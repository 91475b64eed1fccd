"""Archives that no reader may unpack, and the word of the refusal that says why."""

import functools
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from genvlm.data.archives import ArchiveLimits
from genvlm.testing.files import write_tar

LIMITS = ArchiveLimits(members=500, total=1 << 24, harmless=1 << 20)
"""With which they are unpacked: bombs are then small enough to be made for a test."""
_Members = list["tuple[str, bytes | str] | tarfile.TarInfo"]


def hostile_archives(folder: Path) -> list[tuple[Path, str]]:
    """Write all of them; each with a part of the message with which it is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, (name, why, write) in enumerate(_TARS + _ZIPS + _OTHERS):
        path = folder / f"{number:02d}_{name}"
        write(path)
        made.append((path, why))
    return made


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _tar_of(*members: tuple[str, bytes | str] | tarfile.TarInfo) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_tar(path, [("good.txt", "good"), *members])

    return write


def _pax(**headers: str) -> Callable[[Path], None]:
    """A member whose extended header overrules its plain one."""

    def write(path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            info = tarfile.TarInfo("member.txt")
            info.pax_headers = headers
            tar.addfile(info)

    return write


def _header(size: bytes, name: str = "member.txt", kind: bytes = b"0") -> bytes:
    """A header with the 12 bytes of its size as they are given."""
    info = tarfile.TarInfo(name)
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block)


def _bytes(content: Callable[[], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content())

    return write


def _plain_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(4):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 1000
            tar.addfile(info, io.BytesIO(b"x" * 1000))
    return buffer.getvalue()


def _broken_header() -> bytes:
    content = bytearray(_plain_tar())
    content[1536 + 100 : 1536 + 150] = b"\xff" * 50
    return bytes(content)


def _chain() -> bytes:
    """Long names of long names."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 4
    return (info.tobuf(tarfile.GNU_FORMAT) + b"abc\0".ljust(512, b"\0")) * 3000


def _sparse() -> bytes:
    info = tarfile.TarInfo("holes")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[386:398], block[398:410] = b"00000000000\0", b"00000000000\0"
    block[483:495] = b"77777777777\0"  # 8 GB when the holes are filled
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    return bytes(block) + b"\0" * 1024


_MANY: _Members = [(f"{number}", b"") for number in range(501)]
_TARS: list[tuple[str, str, Callable[[Path], None]]] = [
    ("parent.tar", "leads out", _tar_of(("../x", "x"))),
    ("parent_inside.tar", "leads out", _tar_of(("a/../../x", "x"))),
    ("only_parent.tar", "leads out", _tar_of(("..", "x"))),
    ("parent_folder.tar", "leads out", _tar_of(_special("../folder", tarfile.DIRTYPE))),
    ("absolute.tar", "leads out", _tar_of(("/tmp/x", "x"))),
    ("backslash.tar", "leads out", _tar_of(("a\\..\\..\\x", "x"))),
    ("drive.tar", "leads out", _tar_of(("C:\\x", "x"))),
    ("no_name.tar", "leads out", _tar_of(("", "x"))),
    ("pax_parent.tar", "leads out", _pax(path="../x")),
    ("pax_absolute.tar", "leads out", _pax(path="/etc/x")),
    ("link_out.tar", "is a link", _tar_of(_special("x", tarfile.SYMTYPE, "/etc/passwd"))),
    ("link_up.tar", "is a link", _tar_of(_special("x", tarfile.SYMTYPE, ".."), ("x/y", "y"))),
    ("link_in.tar", "is a link", _tar_of(_special("x", tarfile.SYMTYPE, "good.txt"))),
    ("hard_link_out.tar", "is a link", _tar_of(_special("x", tarfile.LNKTYPE, "/etc/passwd"))),
    ("hard_link_in.tar", "is a link", _tar_of(_special("x", tarfile.LNKTYPE, "good.txt"))),
    ("characters.tar", "device", _tar_of(_special("x", tarfile.CHRTYPE))),
    ("blocks.tar", "device", _tar_of(_special("x", tarfile.BLKTYPE))),
    ("pipe.tar", "device or pipe", _tar_of(_special("x", tarfile.FIFOTYPE))),
    ("sparse.tar", "sparse", _bytes(_sparse)),
    ("twice.tar", "two members", _tar_of(("good.txt", "evil"))),
    ("twice_by_dot.tar", "two members", _tar_of(("./good.txt", "evil"))),
    ("twice_by_slashes.tar", "two members", _tar_of(("a/b", "x"), ("a//b", "y"))),
    ("file_and_folder.tar", "both a file and a folder", _tar_of(("good.txt/x", "x"))),
    ("long_name.tar", "cannot be unpacked", _tar_of(("n" * 300, "x"))),
    ("many.tar", "more than 500 members", _tar_of(*_MANY)),
    ("cut.tar", "damaged", _bytes(lambda: _plain_tar()[:2200])),
    ("broken_header.tar", "goes on behind", _bytes(_broken_header)),
    ("joined.tar", "goes on behind", _bytes(lambda: _plain_tar() * 2)),
    ("exabytes.tar", "damaged", _bytes(lambda: _header(b"\x80" + b"\0" * 3 + b"\x7f" * 8))),
    ("minus.tar", "negative size", _bytes(lambda: _header(b"\xff" * 10 + b"\xfe\0"))),
    ("pax_minus.tar", "negative size", _pax(size="-512")),
    ("long_header.tar", "header of", _bytes(lambda: _header(b"77777777777\0", kind=b"L"))),
    ("long_pax.tar", "header of", _bytes(lambda: _header(b"77777777777\0", kind=b"x"))),
    ("chain.tar", "headers", _bytes(_chain)),
]  # fmt: skip


def _zip_of(
    *members: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("good.txt", b"good")
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def _changed(content: bytes, *, central: dict[int, bytes], local: dict[int, bytes]) -> bytes:
    """The zip with bytes of the last member's headers overwritten, by their offsets in each."""
    result = bytearray(content)
    for magic, changes in ((b"PK\1\2", central), (b"PK\3\4", local)):
        start = content.rfind(magic)
        for offset, value in changes.items():
            result[start + offset : start + offset + len(value)] = value
    return bytes(result)


def _overlapping() -> bytes:
    """Two entries of the directory for the bytes of one member."""
    content = _zip_of(("a.txt", b"a" * 100), ("b.txt", b"b" * 100))
    first = content.find(b"PK\3\4", 4)
    return _changed(content, central={42: struct.pack("<I", first)}, local={})


def _zip_bomb() -> bytes:
    return _zip_of(("zeros", b"\0" * (1 << 24)), compression=zipfile.ZIP_DEFLATED)


_ONE = functools.partial(_zip_of, ("a.txt", b"a" * 100))


def _other(central: dict[int, bytes], local: dict[int, bytes]) -> Callable[[Path], None]:
    return _bytes(lambda: _changed(_ONE(), central=central, local=local))


_SIZE = struct.pack("<I", 50)
_LARGE = struct.pack("<I", 0xFFFFFFF0)
_MANY_ZIPPED = [(str(number), b"") for number in range(501)]
_ZIPS: list[tuple[str, str, Callable[[Path], None]]] = [
    ("parent.zip", "leads out", _bytes(lambda: _zip_of(("../x", b"x")))),
    ("parent_inside.zip", "leads out", _bytes(lambda: _zip_of(("a/../../x", b"x")))),
    ("parent_folder.zip", "leads out", _bytes(lambda: _zip_of(("../folder/", b"")))),
    ("absolute.zip", "leads out", _bytes(lambda: _zip_of(("/tmp/x", b"x")))),
    ("backslash.zip", "leads out", _bytes(lambda: _zip_of(("..\\x", b"x")))),
    ("drive.zip", "leads out", _bytes(lambda: _zip_of(("C:/x", b"x")))),
    ("link.zip", "is a link", _bytes(lambda: _zip_of((_entry("x", 0o120777), b"/etc/passwd")))),
    ("device.zip", "device", _bytes(lambda: _zip_of((_entry("x", 0o020666), b"")))),
    ("pipe.zip", "device or pipe", _bytes(lambda: _zip_of((_entry("x", 0o010666), b"")))),
    ("file_and_folder.zip", "both a file and", _bytes(lambda: _zip_of(("good.txt/x", b"x")))),
    ("encrypted.zip", "encrypted", _other({8: b"\1\0"}, {6: b"\1\0"})),
    ("many.zip", "more than 500 members", _bytes(lambda: _zip_of(*_MANY_ZIPPED))),
    ("bomb.zip", "would unpack", _bytes(_zip_bomb)),
    ("overlapping.zip", "share their bytes", _bytes(_overlapping)),
    ("gigabytes.zip", "would unpack", _other({24: _LARGE}, {22: _LARGE})),
    ("more_than_declared.zip", "damaged", _other({24: _SIZE}, {22: _SIZE})),
    ("other_name.zip", "damaged", _other({46: b"z"}, {})),
    ("other_checksum.zip", "damaged", _other({16: b"\1"}, {14: b"\1"})),
    ("other_method.zip", "damaged", _other({10: b"\x63"}, {8: b"\x63"})),
    ("cut.zip", "damaged", _bytes(lambda: _ONE()[:-30])),
]  # fmt: skip


def _gzip_bomb() -> bytes:
    """16 MB of zeros in 16 KB: in one member of a tar that itself declares its size."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 1 << 24
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    return gzip.compress(buffer.getvalue())


def _twice_zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", b"good")
        archive.writestr("b.txt", b"evil")
    return buffer.getvalue().replace(b"b.txt", b"a.txt")


def _other_tail() -> bytes:
    content = bytearray(gzip.compress(_plain_tar()))
    content[-8:-4] = struct.pack("<I", zlib.crc32(b"other"))
    return bytes(content)


def _member_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


_OTHERS: list[tuple[str, str, Callable[[Path], None]]] = [
    ("twice.zip", "two members", _bytes(_twice_zipped)),
    ("bomb.tar.gz", "would unpack", _bytes(_gzip_bomb)),
    ("cut.tar.gz", "damaged", _bytes(lambda: gzip.compress(_plain_tar())[:-20])),
    ("other_checksum.tar.gz", "cannot be unpacked", _bytes(_other_tail)),
    ("parent.tar.gz", "leads out", _bytes(lambda: gzip.compress(_member_of("../x")))),
    ("no_tar.gz", "damaged", _bytes(lambda: gzip.compress(b"text" * 1000))),
    ("empty.tar", "empty", _bytes(bytes)),
    ("text.tar", "damaged", _bytes(lambda: b"no archive at all" * 100)),
    ("packed.tar.xz", "bzip2 or xz", _bytes(lambda: b"\xfd7zXZ\0" + b"\0" * 100)),
]  # fmt: skip
