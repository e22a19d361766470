"""Makes the archives of tests/archives.rs with Python's own writers, and hostile ones by hand.

make.py pack FORMAT SRC OUT      the folder SRC as `tar`, `tar.gz`, `zip`, … in the dialect that FORMAT names
make.py hostile NAME OUT         an archive that must be refused, or that must not fool the reader
"""

import bz2
import gzip
import io
import lzma
import os
import struct
import sys
import tarfile
import zipfile
import zlib


def names(src):
    for folder, folders, files in os.walk(src):
        folders.sort()
        for name in sorted(folders) + sorted(files):
            path = os.path.join(folder, name)
            yield path, os.path.relpath(path, src)


def pack_tar(src, out, mode, prefix="", **options):
    with tarfile.open(out, mode, **options) as tar:
        for path, name in names(src):
            tar.add(path, prefix + name, recursive=False)


def pack_zip(src, out, method, prefix="", stream=False):
    # A stream that cannot seek gets data descriptors, as `zip -` writes them.
    target = io.BytesIO()
    if stream:
        target.seekable = lambda: False
    with zipfile.ZipFile(target, "w", method) as packed:
        for path, name in names(src):
            packed.write(path, prefix + name)
    with open(out, "wb") as file:
        file.write(target.getvalue())


def pack(form, src, out):
    tars = {
        "tar": ("w", {"format": tarfile.PAX_FORMAT}),
        "tar-gnu": ("w", {"format": tarfile.GNU_FORMAT}),
        "tar-ustar": ("w", {"format": tarfile.USTAR_FORMAT}),
        "tar-dot": ("w", {"prefix": "./"}),
        "tar.gz": ("w:gz", {}),
        "tar.bz2": ("w:bz2", {}),
        "tar.xz": ("w:xz", {}),
        "tar.xz-9": ("w:xz", {"preset": 9}),
    }
    if form in tars:
        mode, options = tars[form]
        return pack_tar(src, out, mode, **options)
    if form == "tar.gz-members":
        pack_tar(src, out, "w")
        with open(out, "rb") as file:
            plain = file.read()
        third = len(plain) // 3
        parts = [plain[:third], b"", plain[third:2 * third], plain[2 * third:]]
        with open(out, "wb") as file:
            file.write(b"".join(gzip.compress(part, 1) for part in parts) + bytes(1000))
        return None
    if form == "tar.bz2-streams":
        pack_tar(src, out, "w")
        with open(out, "rb") as file:
            plain = file.read()
        with open(out, "wb") as file:
            file.write(bz2.compress(plain[:12345]) + bz2.compress(plain[12345:]))
        return None
    if form == "tar.xz-streams":
        pack_tar(src, out, "w")
        with open(out, "rb") as file:
            plain = file.read()
        with open(out, "wb") as file:
            file.write(lzma.compress(plain[:12345]) + bytes(8) + lzma.compress(plain[12345:]))
        return None
    zips = {
        "zip": (zipfile.ZIP_DEFLATED, {}),
        "zip-stored": (zipfile.ZIP_STORED, {}),
        "zip-dot": (zipfile.ZIP_DEFLATED, {"prefix": "./"}),
        "zip-stream": (zipfile.ZIP_DEFLATED, {"stream": True}),
    }
    method, options = zips[form]
    return pack_zip(src, out, method, **options)


GOOD = b"harmless\n"


def member(name, content=GOOD, kind=tarfile.REGTYPE, link="", pax=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    info.pax_headers = pax or {}
    return info, content


def tar_of(*members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in (member("config.json"), *members):
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def header(name, size, kind=b"0", content=b""):
    """A header by hand, for sizes that no content follows."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    padded = content + bytes(-len(content) % 512)
    return info.tobuf(tarfile.GNU_FORMAT) + padded


def large(form):
    info = tarfile.TarInfo("weights")
    info.size = 9 << 30
    return info.tobuf(form) + bytes(1 << 20)


def zip_of(*members, edit=None):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("config.json", GOOD)
        for name, content in members:
            packed.writestr(name, content)
    return edit(bytearray(out.getvalue())) if edit else out.getvalue()


def central(data, number):
    """Where the entry `number` of the central directory begins."""
    at = data.rindex(b"PK\x05\x06")
    at = struct.unpack_from("<I", data, at + 16)[0]
    for _ in range(number):
        lengths = struct.unpack_from("<HHH", data, at + 28)
        at += 46 + sum(lengths)
    return at


def zip_edited(offset, form, value, number=1, both=None):
    def edit(data):
        at = central(data, number)
        struct.pack_into(form, data, at + offset, value)
        if both is not None:
            local = struct.unpack_from("<I", data, at + 42)[0]
            struct.pack_into(form, data, local + both, value)
        return bytes(data)

    return zip_of(("weights", b"x" * 1000), edit=edit)


def zip_link():
    info = zipfile.ZipInfo("weights")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return zip_of((info, b"/etc/passwd"))


def zip_overlap():
    """Two entries of the directory over the same bytes."""
    data = bytearray(zip_of(("aa", b"x" * 1000), ("bb", b"x" * 1000)))
    first, second = central(data, 1), central(data, 2)
    data[second + 42:second + 46] = data[first + 42:first + 46]
    return bytes(data)


def zip_flood(count, claimed=None):
    """An end record that promises entries, and a directory as long as they would need."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    body = entry * count
    count = claimed or count
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(body), 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(body), 1)
    return body + end64 + locator + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)


def flood(count):
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="w", compresslevel=1) as packed:
        for number in range(count):
            packed.write(header(f"f{number}/", 0, b"5"))
        packed.write(bytes(1024))
    return out.getvalue()


def truncated(data, part):
    return data[:len(data) * part // 100]


def flipped(data, at):
    data = bytearray(data)
    data[at] ^= 0x20
    return bytes(data)


BIG = bytes(range(256)) * 4000


HOSTILE = {
    "tar-absolute": lambda: tar_of(member("/etc/dray-was-here")),
    "tar-climbs": lambda: tar_of(member("../climbed")),
    "tar-climbs-inside": lambda: tar_of(member("a/../../climbed")),
    "tar-climbs-folder": lambda: tar_of(member("../climbed/", b"", tarfile.DIRTYPE)),
    "tar-state": lambda: tar_of(member(".dray/receipt.json")),
    "tar-backslash": lambda: tar_of(member("a\\b")),
    "tar-not-utf8": lambda: tar_of(member("f\udcff"), form=tarfile.GNU_FORMAT),
    "tar-symlink": lambda: tar_of(member("weights", b"", tarfile.SYMTYPE, "/etc/passwd")),
    "tar-symlink-then-through": lambda: tar_of(
        member("out", b"", tarfile.SYMTYPE, "/tmp"), member("out/climbed")
    ),
    "tar-hardlink": lambda: tar_of(member("weights", b"", tarfile.LNKTYPE, "config.json")),
    "tar-device": lambda: tar_of(member("weights", b"", tarfile.CHRTYPE)),
    "tar-block-device": lambda: tar_of(member("weights", b"", tarfile.BLKTYPE)),
    "tar-fifo": lambda: tar_of(member("weights", b"", tarfile.FIFOTYPE)),
    "tar-sparse": lambda: header("weights", 0, b"S") + bytes(1024),
    "tar-pax-sparse": lambda: tar_of(member("weights", pax={"GNU.sparse.major": "1"})),
    "tar-unknown-type": lambda: header("weights", 0, b"Q") + bytes(1024),
    "tar-twice": lambda: tar_of(member("weights"), member("weights")),
    "tar-twice-by-case": lambda: tar_of(member("weights"), member("WEIGHTS")),
    "tar-file-and-folder": lambda: tar_of(member("weights"), member("weights/a")),
    "tar-two-names": lambda: header("././@LongLink", 6, b"L", b"long\0\0")
    + header("pax", 13, b"x", b"13 path=pax1\n") + header("short", 0) + bytes(1024),
    "tar-two-sizes": lambda: header("pax", 11, b"x", b"11 size=12\n") + header("short", 5, b"0", b"12345") + bytes(1024),
    "tar-huge-pax": lambda: gzip.compress(tar_of(member("n" * 1_000_000))),
    "tar-huge-pax-claimed": lambda: header("pax", 1 << 40, b"x") + bytes(1024),
    "tar-huge-long-name": lambda: gzip.compress(tar_of(member("n" * 1_000_000), form=tarfile.GNU_FORMAT)),
    "tar-many-headers": lambda: header("pax", 6, b"x", b"6 a=b\n") * 2 + header("a", 0) + bytes(1024),
    "tar-bomb-claimed": lambda: gzip.compress(header("weights", 1 << 40) + bytes(1 << 20)),
    "tar-bomb-behind-the-end": lambda: b"".join([gzip.compress(tar_of())] + [gzip.compress(bytes(64 << 20))] * 17),
    "tar-flood": lambda: flood(50_001),
    "tar-large-pax": lambda: gzip.compress(large(tarfile.PAX_FORMAT)),
    "tar-large-gnu": lambda: gzip.compress(large(tarfile.GNU_FORMAT)),
    "tar-base-256-negative": lambda: tar_negative(),
    "tar.xz-memory": lambda: lzma.compress(
        tar_of(), filters=[{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 512 << 20}]
    ),
    "zip-absolute": lambda: zip_of(("/etc/dray-was-here", GOOD)),
    "zip-climbs": lambda: zip_of(("../climbed", GOOD)),
    "zip-climbs-folder": lambda: zip_of(("../climbed/", b"")),
    "zip-symlink": zip_link,
    "zip-encrypted": lambda: zip_edited(8, "<H", 1, both=6),
    "zip-method": lambda: zip_edited(10, "<H", 14, both=8),
    "zip-method-bzip2": lambda: zip_edited(10, "<H", 12, both=8),
    "zip-twice-by-case": lambda: zip_of(("weights", GOOD), ("WEIGHTS", GOOD)),
    "zip-overlap": zip_overlap,
    "zip-flood": lambda: zip_flood(50_001),
    "zip-flood-claimed": lambda: zip_flood(3, 1 << 40),
    "zip-bomb-claimed": lambda: zip_edited(24, "<I", 2**31),
    "zip-other-name-inside": lambda: zip_of(("weights", GOOD)).replace(b"weights", b"weighty", 1),
    # Damaged.
    "tar-truncated": lambda: truncated(tar_of(member("weights", BIG)), 60),
    "tar-without-end": lambda: header("weights", 5, b"0", b"12345"),
    "tar-empty-file": lambda: b"",
    "tar-checksum": lambda: flipped(tar_of(), 3),
    "tar-not-one": lambda: os.urandom(4096),
    "tar.gz-truncated": lambda: truncated(gzip.compress(tar_of(member("weights", os.urandom(99_999)))), 60),
    "tar.gz-crc": lambda: flipped(gzip.compress(tar_of()), -8),
    "tar.gz-garbage-behind": lambda: gzip.compress(tar_of()) + b"garbage",
    "tar.bz2-truncated": lambda: truncated(bz2.compress(tar_of(member("weights", os.urandom(99_999)))), 60),
    "tar.bz2-crc": lambda: flipped(bz2.compress(tar_of()), 12),
    "tar.xz-truncated": lambda: truncated(lzma.compress(tar_of(member("weights", os.urandom(99_999)))), 60),
    "tar.xz-crc": lambda: flipped(lzma.compress(tar_of(member("weights", os.urandom(9_999)))), 5_000),
    "zip-truncated": lambda: truncated(zip_of(("weights", os.urandom(99_999))), 60),
    "zip-crc": lambda: zip_edited(16, "<I", 7, both=14),
    "zip-shorter-than-said": lambda: zip_edited(24, "<I", 999, both=22),
    "zip-longer-than-said": lambda: zip_edited(24, "<I", 1001, both=22),
    "zip-not-one": lambda: os.urandom(4096),
    "zip-front-garbage": lambda: b"#!/bin/sh\n" + zip_of(("weights", GOOD)),
    "zip-back-garbage": lambda: zip_of(("weights", GOOD)) + b"garbage",
    # Empty.
    "tar-no-file": lambda: header("folder/", 0, b"5") + bytes(1024),
    "zip-no-file": lambda: bytes(b"PK\x05\x06") + bytes(18),
}


def tar_negative():
    block = bytearray(header("weights", 0)[:512])
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(*sys.argv[2:])
    else:
        with open(sys.argv[3], "wb") as file:
            file.write(HOSTILE[sys.argv[2]]())
