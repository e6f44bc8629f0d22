"""Audio data: what is read, and what every file that cannot be read is told."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from carom.audio.data.load import load_data, read_sound
from carom.common.base.errors import BadInput, CaromError, UnknownName

RATE = 16_000


def samples(n=300, seed=0):
    return np.random.default_rng(seed).integers(-20_000, 20_000, n).astype(np.int16)


@pytest.fixture
def folder(tmp_path):
    """Two classes of two sounds each, in WAV and FLAC, of different lengths."""
    for label, name in enumerate(("yes", "no")):
        (tmp_path / name).mkdir()
        for k, ending in enumerate(("wav", "flac")):
            soundfile.write(tmp_path / name / f"{k}.{ending}", samples(300 + 50 * k, 10 * label + k), RATE)
    return tmp_path


def test_builtin_keywords():
    data = load_data("builtin:keywords", limit=12)
    assert data.stored.shape == (12, 16_000)
    assert data.stored.dtype == torch.int16
    assert data.facts["sample_rate"] == RATE
    assert data.lengths.max() <= 16_000
    assert load_data("builtin:keywords", split="calibration", limit=1).facts["split"] == "calibration"
    with pytest.raises(UnknownName, match="keywords"):
        load_data("builtin:keyword")


def test_folder(folder):
    data = load_data(f"folder:{folder}")
    assert data.classes == ("no", "yes")
    assert data.ids == ["no/0.wav", "no/1.flac", "yes/0.wav", "yes/1.flac"]
    assert data.lengths.tolist() == [300, 350, 300, 350]
    assert data.stored.shape == (4, 350)
    assert np.array_equal(data.stored[3].numpy(), samples(350, 1))
    assert (data.stored[0, 300:] == 0).all()
    assert data.space.sample_rate == RATE


def test_floats_and_lossy_files(tmp_path):
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "float.wav", samples() / 32768, RATE, subtype="FLOAT")
    time = np.arange(4000) / RATE
    soundfile.write(tmp_path / "a" / "tone.ogg", 0.3 * np.sin(2 * np.pi * 440 * time), RATE)
    data = load_data(f"folder:{tmp_path}")
    assert np.array_equal(data.stored[0, :300].numpy(), samples())
    assert data.lengths[1] == 4000


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda p: soundfile.write(p, np.stack([samples(), samples()], 1), RATE), "has 2 channels.*mono=true"),
        (lambda p: soundfile.write(p, samples(0), RATE), "holds no samples"),
        (lambda p: soundfile.write(p, np.array([0.1, np.nan]), RATE, subtype="FLOAT"), "not finite"),
        (lambda p: soundfile.write(p, np.array([0.1, np.inf]), RATE, subtype="FLOAT"), "not finite"),
        (lambda p: soundfile.write(p, np.array([0.1, -2.5]), RATE, subtype="FLOAT"), "peaks at 2.5.*Scale it by 0.4"),
        (lambda p: soundfile.write(p, samples(700), 10), "lasts 70 s, more than max_seconds=60"),
        (lambda p: p.write_bytes(b""), "not a sound"),
        (lambda p: p.write_text("hello"), "not a sound"),
    ],
)
def test_sounds_that_are_refused(tmp_path, write, says):
    file = tmp_path / "x.wav"
    write(file)
    with pytest.raises(BadInput, match=f"x.wav: .*{says}"):
        read_sound(file, str(file))


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_truncated_sounds(tmp_path, ending):
    file = tmp_path / f"x.{ending}"
    soundfile.write(file, samples(20_000), RATE)
    file.write_bytes(file.read_bytes()[:20_000])
    with pytest.raises(BadInput, match=r"truncated|to its end"):
        read_sound(file, str(file))


def test_every_bad_file_is_named(folder):
    (folder / "no" / "text.wav").write_text("hello")
    soundfile.write(folder / "yes" / "stereo.wav", np.stack([samples(), samples()], 1), RATE)
    with pytest.raises(CaromError, match="2 inputs cannot be used") as caught:
        load_data(f"folder:{folder}")
    assert "text.wav" in str(caught.value)
    assert "stereo.wav" in str(caught.value)
    left = load_data(f"folder:{folder}", on_error="skip")
    assert (len(left), len(left.skipped)) == (4, 2)
    assert len(load_data(f"folder:{folder}?mono=true", on_error="skip")) == 5


def test_sample_rates(folder):
    soundfile.write(folder / "no" / "slow.wav", samples(), 8000)
    with pytest.raises(BadInput, match=r"slow.wav: is at 8000 Hz where others are at 16000 Hz. Pass sample_rate=16000"):
        load_data(f"folder:{folder}")
    with pytest.raises(BadInput, match=r"slow.wav: is at 8000 Hz, not 16000 Hz"):
        load_data(f"folder:{folder}?sample_rate=16000")
    data = load_data(f"folder:{folder}?sample_rate=16000&resample=true")
    assert data.lengths[data.ids.index("no/slow.wav")] == 600


def test_facts_are_checked(folder):
    with pytest.raises(UnknownName, match="sample_rate"):
        load_data(f"folder:{folder}?samplerate=16000")
    with pytest.raises(CaromError, match="FOLDER/CLASS/FILE"):
        load_data(f"folder:{folder / 'yes'}")


def test_hub_table_on_disk(folder):
    datasets = pytest.importorskip("datasets")
    cells = [{"path": None, "bytes": (folder / "yes" / "0.wav").read_bytes()}, {"path": str(folder / "no" / "1.flac")}]
    plain = datasets.Features(
        {
            "audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
            "label": datasets.Value("int64"),
        }
    )
    table = datasets.Dataset.from_dict(
        {"audio": [{"bytes": None, "path": None, **cell} for cell in cells], "label": [1, 0]}, features=plain
    )
    table = table.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    table = table.cast_column("audio", datasets.Audio(decode=False))
    table.save_to_disk(str(folder / "table"))
    data = load_data(f"hf:{folder / 'table'}")
    assert data.labels.tolist() == [1, 0]
    assert data.lengths.tolist() == [300, 350]
    assert np.array_equal(data.stored[0, :300].numpy(), samples(300, 0))


SQUARE = (0.99 * np.sign(np.sin(2 * np.pi * 333 * np.arange(16000) / 16000))).astype("float32")


@pytest.mark.parametrize(
    ("ending", "form", "subtype"), [("mp3", "MP3", "MPEG_LAYER_III"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS")]
)
def test_loud_lossy_sounds_are_clipped_as_players_do(ending, form, subtype, tmp_path):
    if subtype not in soundfile.available_subtypes(form):
        pytest.skip(f"libsndfile has no {subtype}")
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / f"x.{ending}"
    soundfile.write(file, SQUARE, 16000, format=form, subtype=subtype)
    decoded = soundfile.read(file, dtype="float32")[0]
    assert np.abs(decoded).max() > 1
    data = load_data(f"folder:{tmp_path}")
    wanted = torch.from_numpy(decoded.clip(-1, 1))
    assert (data.stored[0].int() - data.space.encode(wanted).int()).abs().max() <= 1
    assert "clipped 1 sounds louder than full scale" in data.remarks[0]
    half = load_data(f"folder:{tmp_path}?sample_rate=8000&resample=true")
    assert half.stored.shape[1] == (len(decoded) + 1) // 2


def test_other_loud_sounds_are_refused_unless_clipping_is_asked_for(tmp_path):
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "x.wav", 2 * SQUARE, 16000, subtype="FLOAT")
    with pytest.raises(BadInput, match=r"x.wav: peaks at 1.98, .*clip=true"):
        load_data(f"folder:{tmp_path}")
    data = load_data(f"folder:{tmp_path}?clip=true")
    assert data.stored.abs().max() >= 32767
    assert data.remarks


def test_a_rate_that_no_sound_has_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "x.wav", SQUARE, 16000)
    damaged = bytearray((tmp_path / "a" / "x.wav").read_bytes())
    damaged[24:28] = (2_000_000_000).to_bytes(4, "little")
    (tmp_path / "a" / "x.wav").write_bytes(damaged)
    with pytest.raises(BadInput, match="2000000000 Hz"):
        load_data(f"folder:{tmp_path}")


@pytest.mark.parametrize("clip", [False, True])
def test_samples_in_another_unit_are_not_clipped(tmp_path, clip):
    file = tmp_path / "x.wav"
    soundfile.write(file, np.sin(np.arange(80)) * 32000, 8000, subtype="FLOAT")
    with pytest.raises(BadInput, match=r"another unit than -1 to 1\. Divide them by the full scale"):
        read_sound(file, str(file), clip=clip)
    soundfile.write(file, np.sin(np.arange(80)) * 32000 / 32768, 8000, subtype="FLOAT")  # as the remedy says
    assert 0.9 < np.abs(read_sound(file, str(file))[0]).max() < 1
