"""Changes that a file may suffer, by a disk, by a program or by somebody: always the same ones of a seed."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ODD: list[Any] = [
    None, True, [], {}, "", 0, -1, 1.5, 1e308, 2**31, 2**63, 10**30, "nan", "\0", "../../x", "/etc/passwd", "zoo:image-vgg",
    "py:fuzz_sentinel:f", "hf:./x?trust_remote_code=true", "http://127.0.0.1:9/x.csv", "[/b]", "a" * 10_000, [[[[]]]],
]  # fmt: skip
"""Values that a program, or somebody, puts where another one belongs."""


def flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def spliced(data: bytes, rng: random.Random) -> bytes:
    """A piece taken out, doubled, or put elsewhere."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    at = rng.randrange(len(data) + 1)
    return rng.choice((data[:a] + data[b:], data[:b] + data[a:], data[:at] + data[a:b] + data[at:]))


def written_over(data: bytes, rng: random.Random) -> bytes:
    """A number of 8 bytes, or characters that mean something, somewhere."""
    at = rng.randrange(len(data) + 1)
    piece = rng.choice(
        (b"\xff" * 8, b"\0" * 8, struct.pack("<q", 2 ** rng.randrange(63)), b"[" * 5000, b'"', b"\n", b"\xe9")
    )
    return data[:at] + piece + data[at + rng.choice((0, len(piece))) :]


def odd_json(data: bytes, rng: random.Random) -> bytes:
    """One value of a JSON text replaced, or one key renamed or taken out."""
    value = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, inner in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(inner, dict | list):
                walk(inner)

    if not isinstance(value, dict | list) or rng.random() < 0.05:
        return json.dumps(rng.choice(ODD)).encode()
    walk(value)
    if places:
        node, key = rng.choice(places)
        if rng.random() < 0.2:
            del node[key]
        else:
            node[key] = rng.choice(ODD)
    return json.dumps(value).encode()


def odd_toml(data: bytes, rng: random.Random) -> bytes:
    lines = data.decode().splitlines()
    at = rng.choice([n for n, line in enumerate(lines) if "=" in line])
    shown = [json.dumps(v) for v in ODD if not isinstance(v, dict) and v is not None]
    value = rng.choice([*shown, "nan", "-inf", "1979-05-27", "9" * 5000, "[" * 3000 + "]" * 3000])
    lines[at] = re.sub("=.*", lambda _: f"= {value}", lines[at], count=1)
    return "\n".join(lines).encode()


def odd_header(data: bytes, rng: random.Random) -> bytes:
    """The header of a safetensors file, with another value; its metadata may be JSON again."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    inner = header.get("__metadata__", {})
    if inner and rng.random() < 0.7:
        name = rng.choice(list(inner))
        inner[name] = odd_json(inner[name].encode(), rng).decode()
        changed = json.dumps(header).encode()
    else:
        changed = odd_json(json.dumps(header).encode(), rng)
    return struct.pack("<Q", len(changed)) + changed + data[8 + size :]


def odd_member(data: bytes, rng: random.Random) -> bytes:
    """A zip file with one member changed: JSON by its values, an array by its header."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(sink, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            content = old.read(name)
            if name == chosen and name.endswith(".npy") and rng.random() < 0.7:
                content = odd_array(content, rng)
            elif name == chosen:
                content = (odd_json if name.endswith(".json") else rng.choice(BYTES))(content, rng)
            new.writestr(name, content)
    return sink.getvalue()


def odd_array(data: bytes, rng: random.Random) -> bytes:
    """Another shape or type in the header of an array."""
    shape = rng.choice(("(10,)", "(0,)", "()", "(1, 1)", f"({10**12},)", f"({10**6}, {10**6})", "(-1,)"))
    kind = rng.choice(("<f8", "|u1", "<i8", "|O", "<U9", "|b1"))
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data[128:]


BYTES: list[Callable[[bytes, random.Random], bytes]] = [flipped, cut, spliced, written_over]


def changes_of(path: Path) -> list[Callable[[bytes, random.Random], bytes]]:
    """What may happen to a file: to its bytes, and to what they mean."""
    meant = {".json": odd_json, ".toml": odd_toml, ".safetensors": odd_header, ".skops": odd_member, ".npz": odd_member}
    own = meant.get(path.suffix)
    return BYTES if own is None else [*BYTES, *[own] * 5]


def mutated(sound: Path, target: Path, seed: int) -> None:
    """A copy of a file or folder of the corpus, changed by a seed; of a folder, in one file."""
    rng = random.Random(f"{sound.name} {seed}")
    if sound.is_dir():
        shutil.copytree(sound, target)
        path = rng.choice(sorted(p for p in target.rglob("*") if p.is_file()))
    else:
        shutil.copy(sound, target)
        path = target
    data = path.read_bytes()
    try:
        path.write_bytes(rng.choice(changes_of(path))(data, rng))
    except (ValueError, IndexError):  # nothing there to change in this way
        path.write_bytes(flipped(data, rng))
