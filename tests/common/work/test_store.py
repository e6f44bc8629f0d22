"""The store under kills and races: a key is there with all that belongs to it, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pyarrow as pa
import pytest
import torch

from carom.common.base.files import write_atomically
from carom.common.work.store import Store, key_of

KEY = key_of({"kind": "test"})


def test_what_is_committed_is_read_back(tmp_path):
    store = Store(tmp_path)
    rows, tensors = pa.table({"id": ["a", "b"], "margin": [0.5, -1.0]}), {"inputs": torch.arange(6).view(2, 3).short()}
    assert not store.has(KEY)
    store.commit(KEY, rows, tensors, seconds=1.25)
    assert store.has(KEY)
    assert store.rows(KEY).equals(rows)
    assert torch.equal(store.tensors(KEY)["inputs"], tensors["inputs"])
    assert store.seconds(KEY) == 1.25
    assert {p.name for p in (tmp_path / KEY[:2]).iterdir()} == {
        f"{KEY}.{s}" for s in ("parquet", "safetensors", "json")
    }


def test_the_same_work_is_the_same_bytes(tmp_path):
    rows, tensors = pa.table({"id": ["a"]}), {"inputs": torch.zeros(1, 4, dtype=torch.uint8)}
    for name in ("one", "two"):
        Store(tmp_path / name).commit(KEY, rows, tensors, seconds=len(name))
    for suffix in ("parquet", "safetensors"):
        one, two = (Store(tmp_path / name).path(KEY, suffix).read_bytes() for name in ("one", "two"))
        assert one == two


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "ab/cd", "AB12", "abcg", "a.b", "ab\x00", "ab\n"])
def test_keys_are_hex_and_nothing_else(key, tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="is not a key"):
        store.path(key, "parquet")
    with pytest.raises(ValueError, match="is not a key"):
        store.commit(key, pa.table({"id": ["a"]}))


def test_keys_name_their_facts_and_no_others():
    facts = {"kind": "craft", "eps": 8 / 255, "seed": 0, "attack": {"is": "Ascent", "steps": 10}}
    assert key_of(facts) == key_of(dict(reversed(facts.items())))
    assert len(key_of(facts)) == 64
    changed = [
        {**facts, "seed": 1},
        {**facts, "eps": 8.0000001 / 255},
        {**facts, "attack": {"is": "Ascent", "steps": 11}},
        {**facts, "attack": {"is": "Descent", "steps": 10}},
        {**facts, "more": None},
    ]
    assert len({key_of(facts), *map(key_of, changed)}) == 6
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"eps": float("nan")})


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_files_have_the_permissions_of_other_files(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "written", b"")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_claim_is_held_by_one_process_and_ends_with_it(tmp_path):
    store = Store(tmp_path)
    code = "import sys; from carom.common.work.store import Store; store = Store(sys.argv[1])\n"
    code += "with store.claim(sys.argv[2]) as mine: print(mine, flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "True\n"
    with store.claim(KEY) as mine:
        assert not mine
    with store.claim(key_of({"kind": "another"})) as mine:
        assert mine
    other.kill()
    other.communicate()
    with store.claim(KEY) as mine:
        assert mine
    assert not list(tmp_path.glob("*/*.lock"))


def script(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_writer_that_is_killed_leaves_no_torn_file(tmp_path):
    """SIGKILL at each flush to disk of a commit (tensors, seconds, rows), as hard as a power cut: the key is not there
    and can be committed again; a key that was there before stays whole."""
    script(
        """
        import os, signal, sys
        import pyarrow as pa, torch
        from carom.common.work.store import Store, key_of
        store, fsync = Store(sys.argv[1]), os.fsync
        rows, tensors = pa.table({"id": ["a"] * 1000}), {"inputs": torch.zeros(1000, 100)}
        for moment in (1, 2, 3):
            key, count = key_of({"moment": moment}), 0
            child = os.fork()
            if not child:
                def die(handle):
                    global count
                    count += 1
                    if count == moment:
                        os.write(handle, b"half of")
                        os.kill(os.getpid(), signal.SIGKILL)
                    fsync(handle)
                os.fsync = die
                store.commit(key, rows, tensors)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
            assert not store.has(key)
            for path in (store.root / key[:2]).iterdir():
                if path.suffix == ".safetensors":
                    store.tensors(key)
                elif path.suffix == ".json":
                    store.seconds(key)
                else:
                    assert path.suffix == ".part", path
            store.commit(key, rows, tensors, 2.0)
            assert store.rows(key).equals(rows) and store.seconds(key) == 2.0
            assert torch.equal(store.tensors(key)["inputs"], tensors["inputs"])
        """,
        tmp_path,
    )


def test_two_writers_and_a_reader_never_meet_a_torn_file(tmp_path):
    counts = json.loads(
        script(
            """
            import json, os, sys
            import pyarrow as pa, torch
            from carom.common.work.store import Store, key_of
            store, keys = Store(sys.argv[1]), [key_of({"n": n}) for n in range(4)]
            children = []
            for writer in range(2):
                child = os.fork()
                if not child:
                    for round in range(8):
                        for n, key in enumerate(keys):
                            store.commit(key, pa.table({"n": [n] * 500}), {"x": torch.full((500,), n)}, writer)
                    os._exit(0)
                children.append(child)
            reads = 0
            while children:
                for n, key in enumerate(keys):
                    if store.has(key):
                        assert store.rows(key)["n"].to_pylist() == [n] * 500
                        assert bool((store.tensors(key)["x"] == n).all())
                        assert store.seconds(key) in (0, 1)
                        reads += 1
                done, status = os.waitpid(-1, os.WNOHANG)
                if done:
                    assert status == 0
                    children.remove(done)
            left = sorted(p.suffix for p in store.root.rglob("*") if p.is_file())
            print(json.dumps({"reads": reads, "left": left}))
            """,
            tmp_path,
        )
    )
    assert counts["reads"] > 0
    assert counts["left"] == sorted([".json", ".parquet", ".safetensors"] * 4)
