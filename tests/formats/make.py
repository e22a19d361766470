"""Makes the files of tests/formats.rs with Python's own writers: honest models, and pickles in every disguise.

make.py make OUT      every file into the folder OUT
make.py judge FILE…   one line a file: `good` or `bad`, as the safetensors library has it
"""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib

import numpy
import safetensors
import safetensors.numpy


class Evil:
    """Runs a command in whoever loads it."""

    def __reduce__(self):
        return (os.system, ("id",))


WEIGHTS = {"state_dict": {"layer.weight": [0.5] * 64, "layer.bias": (1, 2, 3)}, "epoch": 7}
EVIL = pickle.dumps(Evil(), 2)


def legacy_torch():
    """What torch.save wrote before 1.6: magic, protocol, system, then the object."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}]
    return b"".join(pickle.dumps(part, 2) for part in parts) + EVIL + pickle.dumps(["0"], 2) + b"\x04" + bytes(39)


def zipped(members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return out.getvalue()


def torch_zip(method=zipfile.ZIP_STORED):
    members = {"archive/data.pkl": EVIL, "archive/byteorder": b"little", "archive/data/0": bytes(256), "archive/version": b"3\n"}
    return zipped(members, method)


def tarred(members, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def arrays(**named):
    out = io.BytesIO()
    numpy.savez(out, **named)
    return out.getvalue()


def array(value):
    out = io.BytesIO()
    numpy.save(out, value, allow_pickle=True)
    return out.getvalue()


def tensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(start, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def safetensor_files():
    good = safetensors.numpy.save({"a": numpy.arange(24, dtype=numpy.float32).reshape(2, 3, 4), "b": numpy.ones(5)})
    at = 8 + struct.unpack("<Q", good[:8])[0]
    one = tensor(0, 4)
    yield "good.safetensors", good
    yield "good-scalar-and-empty.safetensors", safetensors.numpy.save(
        {"s": numpy.array(1.5, dtype=numpy.float16), "e": numpy.zeros((0, 7), dtype=numpy.int64)}, {"format": "np"}
    )
    yield "good-nothing.safetensors", safetensors.numpy.save({})
    yield "bad-appended.safetensors", good + EVIL
    yield "bad-one-byte-more.safetensors", good + b"\0"
    yield "bad-one-byte-less.safetensors", good[:-1]
    yield "bad-cut-in-header.safetensors", good[: at - 9]
    yield "bad-seven-bytes.safetensors", good[:7]
    yield "bad-long-header.safetensors", struct.pack("<Q", 100_000_001) + good[8:]
    yield "bad-huge-header.safetensors", struct.pack("<Q", 1 << 63) + good[8:]
    yield "bad-overlap.safetensors", tensors({"a": one, "b": tensor(3, 8)}, bytes(8))
    yield "bad-hole.safetensors", tensors({"a": one, "b": tensor(5, 8)}, bytes(8))
    yield "bad-hole-first.safetensors", tensors({"a": tensor(1, 4)}, bytes(4))
    yield "bad-shape.safetensors", tensors({"a": tensor(0, 4, shape=[5])}, bytes(4))
    yield "bad-dtype.safetensors", tensors({"a": tensor(0, 4, dtype="OBJECT")}, bytes(4))
    yield "bad-inverted.safetensors", tensors({"a": tensor(0, 4, shape=[4]) | {"data_offsets": [4, 0]}}, bytes(4))
    yield "bad-overflow.safetensors", tensors({"a": tensor(0, 4, shape=[1 << 40, 1 << 40])}, bytes(4))
    yield "bad-metadata.safetensors", tensors({"__metadata__": {"a": 1}, "a": one}, bytes(4))
    yield "bad-no-json.safetensors", tensors(b"{'a': 1}" + b" " * 8)
    yield "bad-no-object.safetensors", tensors(b"[]" + b" " * 8)
    # The library takes the last of two; a reader that takes the first would see other weights.
    text = json.dumps({"a": one})
    yield "twice.safetensors", tensors(f"{text[:-1]}, {text[1:]}".encode(), bytes(4))
    # A whole zip as a tensor: whoever opens the file as a zip finds a pickle.
    packed = torch_zip()
    yield "zip-as-tensor.safetensors", tensors({"a": tensor(0, len(packed))}, packed)
    yield "pickle.safetensors", EVIL
    yield "torch.safetensors", torch_zip()
    yield "pointer.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def pickles():
    for protocol in range(6):
        yield f"evil-{protocol}.bin", pickle.dumps(Evil(), protocol)
        yield f"weights-{protocol}.bin", pickle.dumps(WEIGHTS, protocol)
    yield "evil.txt", pickle.dumps(Evil(), 0)
    yield "evil.json", pickle.dumps(Evil(), 0)
    yield "evil-and-more.txt", pickle.dumps(Evil(), 0) + b"\nA model card.\n"
    yield "evil-after-a-long-text.md", b"V" + b"A harmless text. " * 20_000 + b"\n0" + pickle.dumps(Evil(), 0)
    yield "legacy.pt", legacy_torch()
    yield "torch.bin", torch_zip()
    yield "torch-deflated.pt", torch_zip(zipfile.ZIP_DEFLATED)
    yield "joblib.gz", gzip.compress(EVIL)
    yield "joblib.z", zlib.compress(EVIL)
    yield "joblib.bz2", bz2.compress(EVIL)
    yield "joblib.xz", lzma.compress(EVIL)
    yield "objects.npy", array(numpy.array([Evil(), {}], dtype=object))
    yield "objects.npz", arrays(plain=numpy.ones(3), odd=numpy.array([Evil()], dtype=object))
    yield "member.zip", zipped({"README.md": b"text\n", "weights": EVIL}, zipfile.ZIP_DEFLATED)
    yield "member.tar", tarred({"README.md": b"text\n", "model/weights": EVIL})
    yield "member.tar.gz", tarred({"README.md": b"text\n", "model/weights": EVIL}, "w:gz")


def others():
    yield "config.json", json.dumps({"model_type": "llama", "eos": [1, 2]}, indent=2).encode()
    yield "rows.jsonl", b'{"a": 1}\n{"a": 2}\n'
    yield "README.md", "# Größe\n\nA model card. 🤗\n".encode()
    yield "vocab.txt", b"cat\ndog\nelephant\n"
    yield "empty", b""
    yield "model.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + bytes(64)
    yield "counts.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1) + bytes(64)
    yield "version.gguf", b"GGUF" + struct.pack("<IQQ", 77, 1, 1) + bytes(64)
    yield "text.gguf", b"no GGUF\n"
    yield "model.onnx", b"\x08\x08\x12\x07pytorch\x3a\x03\x0a\x01x\x42\x04\x0a\x00\x10\x11"
    yield "tokenizer.model", b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02\x0a\x03\x0a\x01a\x12\x02\x18\x01"
    yield "weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(512)
    yield "array.npy", array(numpy.ones((2, 3)))
    yield "arrays.npz", arrays(a=numpy.ones(3), b=numpy.zeros((2, 2), dtype=numpy.int8))
    yield "good.zip", zipped({"config.json": b"{}", "sub/README.md": b"text\n"}, zipfile.ZIP_DEFLATED)
    yield "keras.keras", zipped({"config.json": b"{}", "model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(64)})
    yield "program.zip", zipped({"config.json": b"{}", "run": b"\x7fELF" + bytes(64)})
    yield "nested.zip", zipped({"inner.zip": torch_zip()})
    yield "good.tar", tarred({"config.json": b"{}", "README.md": b"text\n"})
    yield "good.tar.gz", tarred({"config.json": b"{}"}, "w:gz")
    yield "text.gz", gzip.compress(b"A text.\n")
    yield "program.gz", gzip.compress(b"\x7fELF" + bytes(64))
    yield "program", b"\x7fELF" + bytes(512)
    yield "latin-1.txt", "Größe\n".encode("latin-1")
    yield "text-then-bytes.txt", b"A model card.\n" * 10_000 + b"\xff\x00"
    yield "json-then-zip.json", b'{"a": 1}\n' + torch_zip()
    yield "gguf-then-zip.gguf", b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + bytes(64) + torch_zip()
    yield "broken.json", b'{"a": 1'
    yield "lz4", b"\x04\x22\x4d\x18" + bytes(64)
    yield "zstd", b"\x28\xb5\x2f\xfd" + bytes(64)


def make(out):
    for group in (safetensor_files(), pickles(), others()):
        for name, content in group:
            with open(os.path.join(out, name), "wb") as file:
                file.write(content)


def judge(paths):
    for path in paths:
        try:
            safetensors.numpy.load_file(path)
            print("good")
        except Exception:
            print("bad")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        judge(sys.argv[2:])
