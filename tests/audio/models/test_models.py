"""Audio models from every kind of spec and object, and what each asks for when it is not told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from carom.audio.models.load import ASTFeatures, load_model
from carom.audio.space import WAVEFORM, Waveform
from carom.common.base.errors import CaromError, UnknownName
from carom.common.core.batch import Access, Batch, Family
from carom.common.models.functions import FunctionModel
from carom.common.models.trees import TreeModel

LABELS = {0: "up", 1: "down", 2: "stop"}


def sounds(n=3, length=4000, seed=0):
    noise = torch.randn(n, length, generator=torch.Generator().manual_seed(seed))
    return WAVEFORM.round(0.1 * noise)


class Energy(nn.Module):
    """Logits of loudness, over the real samples alone if it is told the lengths."""

    def forward(self, x, lengths=None):
        count = x.shape[1] if lengths is None else lengths
        energy = x.square().sum(1) / count
        return torch.stack([-energy, energy], 1)


class Bands(nn.Module):
    """float[N, L] -> float[N, 4]: energy in four bands."""

    def forward(self, x):
        spectrum = torch.fft.rfft(x)
        power = spectrum.real.square() + spectrum.imag.square()
        return torch.stack([band.mean(1) for band in power.tensor_split(4, 1)], 1)


def bands(waves):
    return Bands()(torch.from_numpy(waves)).numpy()


@pytest.mark.parametrize("name", ["audio-melcnn", "audio-forest"])
def test_zoo(name):
    model = load_model(f"zoo:{name}")
    assert model.name == name
    assert model.space == WAVEFORM
    assert model(sounds(2, 16_000)).logits.shape == (2, 10)
    assert (Access.LEAVES in model.access) == (name == "audio-forest")
    with pytest.raises(CaromError, match="16000"):
        model(sounds(2, 8000))


def test_zoo_suggests_names():
    with pytest.raises(UnknownName, match="audio-melcnn"):
        load_model("zoo:audio-melcn")
    with pytest.raises(UnknownName, match="sample_rate"):
        load_model("zoo:audio-melcnn", sample_rate=8000)


def test_a_module_is_asked_about_by_name():
    with pytest.raises(CaromError, match="cannot know the sample rate and classes of Energy: pass sample_rate=16000"):
        load_model(Energy())
    with pytest.raises(UnknownName, match="sample_rate"):
        load_model(Energy(), samplerate=16_000)
    with pytest.raises(CaromError, match="in Hz"):
        load_model(Energy(), sample_rate="fast", classes=2)
    model = load_model(Energy(), sample_rate=8000, classes=2, samples=4000, family="linear")
    assert model.space == Waveform(sample_rate=8000)
    assert model.family is Family.LINEAR
    with pytest.raises(CaromError, match="takes inputs of shape 4000, the data has 3000"):
        model(sounds(1, 3000))


def test_bounds_and_lengths():
    x, lengths = sounds(), torch.tensor([4000, 2000, 1000])
    plain = load_model(Energy(), sample_rate=16_000, classes=2)
    integers = load_model(Energy(), sample_rate=16_000, classes=2, bounds=(-32768, 32768))
    assert torch.allclose(integers(x).logits, plain(x).logits * 2**30, rtol=1e-4)
    told = load_model(Energy(), sample_rate=16_000, classes=2, takes_lengths=True)
    assert torch.allclose(told(x, lengths).logits[:, 1], x.square().sum(1) / lengths)
    both = load_model(Energy(), sample_rate=16_000, classes=2, takes_lengths=True, bounds=(-2, 2))
    assert torch.allclose(both(x, lengths).logits[:, 1], 4 * x.square().sum(1) / lengths)


def test_trees_behind_features_grant_their_leaves():
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    x = sounds(60)
    features = Bands()(x).numpy()
    y = (features[:, 1] > np.median(features[:, 1])).astype(int)
    forest = RandomForestClassifier(5, random_state=0).fit(features, y)
    with pytest.raises(CaromError, match="sample rate and features of RandomForest"):
        load_model(forest)
    model = load_model(forest, features=Bands(), sample_rate=16_000, classes=["a", "b"])
    assert isinstance(model, TreeModel)
    assert np.abs(model(x).logits.exp().numpy() - forest.predict_proba(features)).max() < 1e-5
    for estimator, made_by in ((forest, bands), (LogisticRegression().fit(features, y), Bands())):
        scored = load_model(estimator, features=made_by, sample_rate=16_000)
        assert isinstance(scored, FunctionModel)
        assert (scored(x).logits.argmax(1).numpy() == estimator.predict(features)).all()


def test_functions():
    def loud(waves):
        energy = (waves**2).mean(1)
        return np.stack([1 - energy, energy], 1)

    with pytest.raises(CaromError, match="sample rate, kind of scores and classes of loud"):
        load_model(loud)
    model = load_model(loud, sample_rate=16_000, answers="probabilities", classes=["quiet", "loud"])
    assert (model(sounds()).logits.argmax(1) == 0).all()
    assert Access.GRADIENT not in model.access


def test_torchaudio_bundles_are_explained():
    with pytest.raises(CaromError, match=r"transcribes speech.*py:package.module:factory\?sample_rate=16000"):
        load_model("torchaudio:WAV2VEC2_ASR_BASE_960H")
    with pytest.raises(CaromError, match="has no classes"):
        load_model("torchaudio:HUBERT_BASE")
    with pytest.raises(UnknownName, match="WAV2VEC2_ASR_BASE_960H"):
        load_model("torchaudio:WAV2VEC2_ASR_BASE_960")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Tiny random checkpoints in the hub's own layout: {name: (folder, model, extractor)}."""
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTForAudioClassification,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForSequenceClassification,
    )

    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "id2label": LABELS,
        "label2id": {name: k for k, name in LABELS.items()},
    }
    wav2vec2 = Wav2Vec2Config(
        conv_dim=(8, 8, 8),
        conv_stride=(5, 4, 4),
        conv_kernel=(10, 4, 4),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        classifier_proj_size=8,
        mask_time_prob=0.0,
        **small,
    )
    ast = ASTConfig(max_length=64, num_mel_bins=32, patch_size=16, time_stride=16, frequency_stride=16, **small)
    made = {
        "wav2vec2": (
            Wav2Vec2ForSequenceClassification(wav2vec2),
            Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
        ),
        "ast": (ASTForAudioClassification(ast), ASTFeatureExtractor(num_mel_bins=32, max_length=64)),
    }
    found = {}
    for name, (model, extractor) in made.items():
        folder = tmp_path_factory.mktemp("hub") / name
        model.eval().save_pretrained(folder)
        extractor.save_pretrained(folder)
        found[name] = folder, model, extractor
    return found


@pytest.mark.parametrize("name", ["wav2vec2", "ast"])
def test_gradients_reach_the_waveform(hub, name):
    model = load_model(f"hf:{hub[name][0]}")
    assert model.classes == tuple(LABELS.values())
    assert model.family is Family.TRANSFORMER
    x = sounds(2, 8000).requires_grad_()
    with model.frozen():
        (grad,) = torch.autograd.grad(model(x, torch.tensor([8000, 5000])).logits[:, 0].sum(), x)
    assert grad.isfinite().all()
    assert (grad[0] != 0).float().mean() > 0.9
    assert (grad[1, :4500] != 0).float().mean() > 0.9
    assert (grad[1, 5000:] == 0).all(), "padding has no influence"


@pytest.mark.parametrize("name", ["wav2vec2", "ast"])
def test_answers_as_transformers_does(hub, name):
    folder, module, extractor = hub[name]
    x, lengths = sounds(2, 8000), torch.tensor([8000, 5000])
    x[1, 5000:] = 0
    model = load_model(f"hf:{folder}")
    alone = []
    for wave, length in zip(x, lengths.tolist(), strict=True):
        given = extractor(wave[:length].numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.no_grad():
            alone.append(module(**given).logits[0])
    with torch.no_grad():
        assert torch.allclose(model(x, lengths).logits, torch.stack(alone), atol=1e-3)
    held = load_model(module, processor=extractor)
    assert held.digest == model.digest
    assert (held.predict(Batch(x, lengths * 0, ["a", "b"], lengths)) - torch.stack(alone)).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["wav2vec2", "ast"])
def test_pipelines_answer_as_they_do_by_hand(hub, name):
    import transformers

    folder = hub[name][0]
    for options in ({}, {"top_k": 1}, {"function_to_apply": "none"}):
        pipe = transformers.pipeline("audio-classification", model=str(folder), device=-1, **options)
        model = load_model(pipe)
        assert model.classes == tuple(LABELS.values())
        assert Access.GRADIENT in model.access
        assert model.digest == load_model(f"hf:{folder}").digest
        for wave in (sounds(1, 8000), sounds(1, 5000, seed=5)):
            row = model(wave).logits[0]
            said = pipe({"raw": wave[0].numpy(), "sampling_rate": 16_000})
            best = [model.classes[k] for k in row.argsort(descending=True)]
            assert [one["label"] for one in said] == best[: len(said)]
    with pytest.raises(CaromError, match="takes sounds at 16000 Hz, not 8000"):
        load_model(pipe, sample_rate=8000)
    pipe.preprocess = lambda sound, **more: type(pipe).preprocess(pipe, {**sound, "raw": sound["raw"] ** 3}, **more)
    with pytest.raises(CaromError, match=r"answers otherwise.*processor=pipe\.feature_extractor"):
        load_model(pipe)


def test_ast_features_match_the_extractor(hub):
    extractor = hub["ast"][2]
    x = sounds(3, 9000, seed=3) * torch.tensor([[1.0], [0.01], [3.0]])
    theirs = extractor(list(x.numpy()), sampling_rate=16_000, return_tensors="pt")["input_values"]
    assert (ASTFeatures(extractor)(x)["input_values"] - theirs).abs().max() < 1e-3


def test_rates_and_extractors_that_do_not_fit(hub):
    folder, module, extractor = hub["wav2vec2"]
    with pytest.raises(CaromError, match="16000 Hz, not 8000"):
        load_model(f"hf:{folder}?sample_rate=8000")

    class Louder:
        sampling_rate, do_normalize, return_attention_mask = 16_000, True, True

        def __call__(self, sound, **given):
            return {"input_values": 2 * extractor(sound, **given)["input_values"]}

    with pytest.raises(CaromError, match="other features than carom can compute"):
        load_model(module, processor=Louder())


def test_a_study_refuses_data_at_another_rate():
    from carom.common.core.data import Dataset
    from carom.common.core.threats import Linf
    from carom.common.study.plan import Plan

    model = load_model(Energy(), sample_rate=8000, classes=["a", "b"])
    stored = WAVEFORM.encode(sounds(1))
    data = Dataset("clips", "audio", WAVEFORM, stored, torch.tensor([0]), ["x"], ("a", "b"))
    with pytest.raises(CaromError, match=r"sample_rate 8000.*sample_rate 16000.*Convert the data"):
        Plan(
            modality="audio",
            sources=(model,),
            targets=(model,),
            attacks=(),
            data=data,
            threat=Linf(0.01),
            threat_label="linf 0.01",
        )
