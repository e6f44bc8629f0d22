"""The store under kills, races and damage: a key is there with all that belongs to it, or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from carom.common.base.errors import CaromError
from carom.common.base.files import write_atomically
from carom.common.base.notices import Notice
from carom.common.work.store import ABANDONED, Store, key_of

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
    """SIGKILL at each flush to disk of a commit (tensors, rows, seal), as hard as a power cut: the key is not there
    and can be committed again; a key that was there before stays whole."""
    script(
        """
        import os, signal, sys
        import pyarrow as pa, pyarrow.parquet as pq, safetensors.torch, torch
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
            whole = [safetensors.torch.load_file, pq.read_table]  # in the order in which they are written
            for suffix, read in zip((".safetensors", ".parquet"), whole[: moment - 1]):
                assert len(read(store.path(key, suffix[1:]))) > 0
            left = {path.suffix for path in (store.root / key[:2]).iterdir()}
            assert left == {".part", *(".safetensors", ".parquet")[: moment - 1]}, left
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


ROWS, TENSORS = pa.table({"id": ["a", "b"], "answer": [0, 1]}), {"inputs": torch.arange(40, dtype=torch.uint8)}
FILES = ("parquet", "safetensors", "json")


def filled(root, key=KEY):
    store = Store(root)
    store.commit(key, ROWS, TENSORS, 1.5)
    return Store(root)


def emptied(path):
    path.write_bytes(b"")


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-9])


def edited(path):
    path.write_bytes(path.read_bytes() + b" ")


def one_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [emptied, cut_short, edited, one_bit, a_folder])
@pytest.mark.parametrize("suffix", FILES)
def test_damage_is_named_set_aside_and_healed(suffix, damage, tmp_path):
    store = filled(tmp_path)
    path = store.path(KEY, suffix)
    damage(path)
    with pytest.warns(Notice, match=f"{path}: .*{KEY}.damaged") as said:
        assert not store.has(KEY)
    assert len(said) == 1
    with store.claim(KEY) as mine:
        assert mine
        assert not store.has(KEY)
        store.commit(KEY, ROWS, TENSORS, 1.5)
    assert (store.path(KEY, "damaged") / path.name).exists()
    healed = Store(tmp_path)
    assert healed.has(KEY)
    assert healed.rows(KEY).equals(ROWS)


@pytest.mark.parametrize("suffix", FILES)
def test_a_unit_that_lacks_a_file_is_not_done(suffix, tmp_path):
    store = filled(tmp_path)
    store.path(KEY, suffix).unlink()
    if suffix == "json":  # as where a commit was interrupted, which is nothing to speak of
        assert not store.has(KEY)
    else:
        with pytest.warns(Notice, match="is missing"):
            assert not store.has(KEY)
    store.commit(KEY, ROWS, TENSORS)
    assert store.has(KEY)


def test_files_of_another_key_are_not_believed(tmp_path):
    """One file exchanged, or all files of a unit copied under another key."""
    other = key_of({"kind": "other"})
    store = filled(tmp_path)
    store.commit(other, pa.table({"id": ["a", "b"], "answer": [1, 0]}), TENSORS, 1.5)
    for suffixes in (("parquet",), FILES):
        kept = {suffix: store.path(KEY, suffix).read_bytes() for suffix in FILES}
        for suffix in suffixes:
            shutil.copy(store.path(other, suffix), store.path(KEY, suffix))
        with pytest.warns(Notice, match="is not what was stored there"):
            assert not Store(tmp_path).has(KEY)
        for suffix, data in kept.items():
            store.path(KEY, suffix).write_bytes(data)
    assert Store(tmp_path).has(KEY)


@pytest.mark.parametrize("suffix", FILES)
def test_no_flipped_bit_is_read(suffix, tmp_path):
    """3000 of each kind of file, each found by the reader that gives rows, tensors and seconds."""
    store = filled(tmp_path)
    path, rng = store.path(KEY, suffix), random.Random(suffix)
    sound, silent = path.read_bytes(), 0
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else tmp_path
    root = memory / f"carom-bits-{os.getpid()}-{suffix}"
    shutil.copytree(tmp_path, root)
    try:
        path = Store(root).path(KEY, suffix)
        for _ in range(3000):
            data = bytearray(sound)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            seal, bad = Store(root)._examined(KEY)
            silent += seal is not None and not bad
    finally:
        shutil.rmtree(root)
    assert silent == 0


def test_damage_during_a_run_ends_it_with_the_name_of_the_file(tmp_path):
    store = filled(tmp_path)
    assert store.has(KEY)
    one_bit(store.path(KEY, "parquet"))
    with pytest.raises(CaromError, match=rf"{KEY}.parquet: is not what was stored there. Give the same command again"):
        store.rows(KEY)


def test_a_store_that_is_only_read(tmp_path):
    filled(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    store = Store(tmp_path, writes=False)
    assert store.has(KEY)
    assert store.rows(KEY).equals(ROWS)
    store.sweep()
    with pytest.raises(CaromError, match=r"cannot be written there: .*--store"), store.claim(key_of({"n": 1})):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_store_that_cannot_be_written_says_so_when_something_is_lacking(code, tmp_path, monkeypatch):
    store = filled(tmp_path)

    def refused(*arguments, **more):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(Path, "mkdir", refused)
    assert store.has(KEY)
    with pytest.raises(CaromError, match=f"{tmp_path}: the store lacks .*{os.strerror(code)}"), store.claim(KEY):
        pass


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_without_locks_units_are_everybodys(code, tmp_path, monkeypatch):
    def refused(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    store = Store(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message=".*SoftFileLock.*")
        for n in range(3):
            with store.claim(key_of({"n": n})) as mine:
                assert mine
    assert [str(w.message).count("knows no locks") for w in said] == ([] if code == errno.ENOSYS else [1])
    assert not list(tmp_path.rglob("*.lock"))


def test_what_killed_processes_left_is_swept_once_it_is_old(tmp_path):
    store = filled(tmp_path)
    folder = store.path(KEY, "json").parent
    old = time.time() - ABANDONED - 60
    left = [folder / name for name in ("carom-x.part", "tmpabc.part", f"{KEY}.lock")]
    fresh = folder / "carom-y.part"
    for path in [*left, fresh]:
        path.write_bytes(b"half of")
    held = store.path(key_of({"kind": "held"}), "lock")
    held.parent.mkdir(exist_ok=True)
    with held.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for path in [*left, held]:
            os.utime(path, (old, old))
        Store(tmp_path).sweep()
        assert not any(path.exists() for path in left)
        assert fresh.exists()
        assert held.exists()
