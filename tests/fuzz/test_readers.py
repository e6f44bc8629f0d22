"""Nothing that is read does harm, however it is changed: it is read, or refused in one line. No code of it runs, nothing is
fetched, and it ends in time and memory.

    python -m pytest -m slow tests/fuzz/test_readers.py

`CAROM_FUZZ=N` changes each thing N times.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from fuzz_isolated import outcome
from fuzz_mutations import mutated
from fuzz_readers import READERS, write_surrogate

from carom.common.loading.boosters.read import SAVE

CORPUS = Path(__file__).parent / "corpus"
TIMES = int(os.environ.get("CAROM_FUZZ", "100"))  # 25 things: 2500 inputs
AT_FIRST = int(os.environ.get("CAROM_FUZZ_FROM", "0"))


@pytest.fixture(scope="module", autouse=True)
def _imported():
    """What readers import is imported once, and not by each process of its own."""
    import datasets  # noqa: F401
    import skops.io  # noqa: F401
    import soundfile  # noqa: F401
    import transformers  # noqa: F401
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

    from carom.common.cli import listing
    from carom.common.modality.installed import modalities

    assert listing
    assert modalities()


def _without(what: str) -> None:
    """Skip where the library that reads it is not installed."""
    library = what.partition("'")[0]
    if library in SAVE:
        pytest.importorskip(library)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, _imported):
    """The sound files, the surrogate among them."""
    folder = shutil.copytree(CORPUS, tmp_path_factory.mktemp("corpus") / "corpus")
    write_surrogate(folder / "surrogate.safetensors")
    return folder


@pytest.mark.parametrize("what", READERS)
def test_sound_files_are_read(what, tmp_path, corpus):
    _without(what)
    file, read = READERS[what]
    (shutil.copytree if (corpus / file).is_dir() else shutil.copy)(corpus / file, tmp_path / file)
    assert outcome(lambda: read(tmp_path / file), tmp_path) == "sound"


@pytest.mark.slow
@pytest.mark.parametrize("what", READERS)
def test_changed_files_are_read_or_refused(what, tmp_path, corpus):
    _without(what)
    file, read = READERS[what]
    ends, wrong = Counter(), {}
    sound = tmp_path / "sound"
    sound.mkdir()
    (shutil.copytree if (corpus / file).is_dir() else shutil.copy)(corpus / file, sound / file)
    read(sound / file)  # once here: what it imports and opens need not be anew in each process
    for seed in range(AT_FIRST, AT_FIRST + TIMES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        mutated(corpus / file, folder / file, seed)
        end = outcome(lambda target=folder / file: read(target), folder)
        ends[end if end in ("sound", "refused") else "wrong"] += 1
        if end not in ("sound", "refused"):
            wrong[seed] = end
    print(what, dict(ends))
    assert not wrong, "\n".join(f"{what}, seed {seed}: {end}" for seed, end in list(wrong.items())[:5])
    assert ends["refused"]
