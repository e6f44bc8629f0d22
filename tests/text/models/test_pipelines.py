"""Text pipelines of transformers answer in Carom what they answer by hand, or are refused in words that help."""

from __future__ import annotations

import pytest
import torch
from tiny_hub import LETTERS, SPECIAL, bert, word_pieces

import carom
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access, Batch
from carom.text.pairs import join

TEXTS = ["a wonderful film with a moving story", "dull .", "unbelievably Good !", "film " * 60]


@pytest.fixture(scope="module")
def tokenizer():
    pieces = [*SPECIAL, "film", "good", "dull", "story", ".", "!", "mov", "##ing", "##ie"]
    return word_pieces([*pieces, *LETTERS, *(f"##{letter}" for letter in LETTERS)], 40, pairs=False)


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipe")
    bert(65, ["bad", "fair", "good"]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def made(folder, **options):
    from transformers import pipeline

    return pipeline("text-classification", model=str(folder), tokenizer=str(folder), device=-1, **options)


def answered(model, texts):
    return model.predict(Batch(texts, torch.zeros(len(texts)), [f"e{k}" for k in range(len(texts))]))


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 1}, {"top_k": None}, {"function_to_apply": "sigmoid"}, {"truncation": True}]
)
def test_answers_as_the_pipeline_does(folder, options):
    pipe = made(folder, **options)
    model = carom.load_model(pipe, "text")
    assert model.classes == ("bad", "fair", "good")
    assert Access.GRADIENT in model.access
    for text, row in zip(TEXTS, answered(model, TEXTS), strict=True):  # the last is longer than its tokenizer asks for
        best = pipe([text], top_k=3, function_to_apply="softmax")[0]
        assert [model.classes[k] for k in row.argsort(descending=True)] == [one["label"] for one in best]
        assert torch.allclose(
            row.softmax(0).sort(descending=True).values, torch.tensor([o["score"] for o in best]), atol=1e-5
        )
    assert (model.digest == carom.load_model(f"hf:{folder}", "text").digest) == ("truncation" in options)


def test_a_shorter_limit_is_followed(folder):
    pipe = made(folder, truncation=True, max_length=6)
    model = carom.load_model(pipe, "text")
    assert model.encoder.limit == 6
    for text, row in zip(TEXTS, answered(model, TEXTS), strict=True):
        assert pipe([text])[0]["label"] == model.classes[int(row.argmax())]
    assert model.digest != carom.load_model(made(folder), "text").digest


def test_pipelines_of_pairs(folder, tmp_path):
    pieces = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    word_pieces(pieces, 40).save_pretrained(tmp_path)
    bert(len(pieces), ["entailment", "neutral", "contradiction"]).save_pretrained(tmp_path)
    pipe = made(tmp_path)
    model = carom.load_model(pipe, "text")
    assert model.space.pairs
    pairs = [("a man sleeps", "a man is awake"), ("no", "yes it is")]
    logits = answered(model, [join(*pair) for pair in pairs])
    for (first, second), row in zip(pairs, logits, strict=True):
        assert pipe({"text": first, "text_pair": second})["label"] == model.classes[int(row.argmax())]


def test_from_a_factory_and_in_a_run(folder, tmp_path, monkeypatch):
    (tmp_path / "pipes.py").write_text(
        "from transformers import pipeline\n\n\ndef made(top_k=1):\n"
        f"    return pipeline('text-classification', model={str(folder)!r}, device=-1, top_k=top_k)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = carom.load_model("py:pipes:made?top_k=2", "text")
    assert model.name == "py:pipes:made"
    assert model.digest == carom.load_model(made(folder), "text").digest
    lines = "".join(f'"{text}",{("bad", "fair", "good")[k]}\n' for k, text in enumerate(TEXTS[:3]))
    (tmp_path / "t.csv").write_text("text,label\n" + lines)
    data = carom.load_data("folder:t.csv", modality="text", classes="bad,fair,good")
    found = carom.transfer([model], [model], ["deepwordbug"], data, controls=1)
    assert found.models()[0]["clean_accuracy"] == pytest.approx(
        sum(made(folder)(t)[0]["label"] == c for t, c in zip(TEXTS[:3], ("bad", "fair", "good"), strict=True)) / 3
    )


def test_what_cannot_be_followed_is_refused_in_words_that_help(folder, tokenizer, tmp_path):
    from transformers import TextClassificationPipeline

    with pytest.raises(CaromError, match="tells its tokenizer add_special_tokens"):
        carom.load_model(made(folder, add_special_tokens=False), "text")
    with pytest.raises(
        CaromError, match="a pipeline for text-classification, and one for image-classification is wanted"
    ):
        carom.load_model(made(folder), "image")

    class Own(TextClassificationPipeline):
        def preprocess(self, inputs, **more):
            return super().preprocess(inputs[::-1], **more)

    plain = made(folder)
    own = Own(model=plain.model, tokenizer=plain.tokenizer, task="text-classification")
    with pytest.raises(CaromError, match=r"a pipeline of your own.*load_model\(pipe.model, tokenizer=pipe.tokenizer\)"):
        carom.load_model(own, "text")
    assert carom.load_model(own.model, "text", tokenizer=own.tokenizer).classes == ("bad", "fair", "good")
    half = made(folder)
    half.model.half()
    with pytest.raises(CaromError, match=r"computes in torch\.float16.*pipe\.model\.float\(\)"):
        carom.load_model(half, "text")
    half.model.float()
    assert carom.load_model(half, "text").classes == ("bad", "fair", "good")
    unnamed = bert(65)
    unnamed.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CaromError, match=r"cannot know the classes of TextClassificationPipeline: pass classes="):
        carom.load_model(made(tmp_path), "text")
    assert carom.load_model(made(tmp_path), "text", classes=["no", "yes"]).classes == ("no", "yes")


def test_a_pipeline_of_one_number_leads_to_a_threshold(tokenizer, tmp_path):
    bert(65, ["score"]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    pipe = made(tmp_path)
    with pytest.raises(CaromError, match=r"answers one number.*tokenizer=pipe\.tokenizer, threshold=0\.5\)"):
        carom.load_model(pipe, "text")
    model = carom.load_model(pipe.model, "text", tokenizer=pipe.tokenizer, threshold=0.0)
    for text, row in zip(TEXTS[:3], answered(model, TEXTS[:3]), strict=True):
        above = pipe([text], function_to_apply="none", top_k=1)[0][0]["score"] >= 0
        assert model.classes[int(row.argmax())] == ("above" if above else "below")


def test_a_pipeline_that_answers_otherwise_is_refused(folder):
    pipe = made(folder)
    pipe.preprocess = lambda inputs, **more: type(pipe).preprocess(pipe, inputs[:3], **more)
    with pytest.raises(CaromError, match="answers otherwise than its network on the same inputs"):
        carom.load_model(pipe, "text")
