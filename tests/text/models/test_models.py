"""Text models from every source, what they ask for, and gradients that reach words."""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest
import torch
from tiny_hub import LETTERS, SPECIAL, word_pieces
from tiny_hub import bert as bert_of
from torch import nn

from carom.common.attacks.edits.greedy import BestEdits, GreedySites
from carom.common.attacks.edits.substitution import Substitution
from carom.common.base.errors import CaromError
from carom.common.core.batch import Access, Batch, Family, Goal
from carom.text.language.tokenizers import WordEncoder
from carom.text.models.load import load_model
from carom.text.models.networks import WordCnn
from carom.text.models.tokens import TokenModel
from carom.text.models.transformer import EncoderBlock
from carom.text.threats import WordBudget
from carom.text.words import split_words

CLASSES = ["negative", "positive"]
TEXTS = ["a wonderful film with a moving story", "dull .", "", "unbelievably Good !"]


@pytest.fixture(scope="session")
def tokenizer():
    """A word-piece tokenizer of few words, many of which it splits."""
    pieces = [*SPECIAL, "film", "good", "dull", "story", ".", "!", "mov", "##ing", "##ie"]
    return word_pieces([*pieces, *LETTERS, *(f"##{letter}" for letter in LETTERS)], 40, pairs=False)


def tiny_bert(names=None):
    return bert_of(65, names)


@pytest.fixture(scope="session")
def bert_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    tiny_bert(["bad", "good"]).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bert(bert_folder):
    return load_model(f"hf:{bert_folder}")


def test_a_folder_of_hugging_face(bert, bert_folder, tokenizer):
    assert (bert.classes, bert.family, bert.modality) == (("bad", "good"), Family.TRANSFORMER, "text")
    assert Access.GRADIENT in bert.access
    assert bert.encoder.limit == 40
    again = load_model(f"hf:{bert_folder}?name=mine&limit=8", classes="no,yes")
    assert (again.name, again.classes, again.encoder.limit) == ("mine", ("no", "yes"), 8)
    assert again.digest != bert.digest == load_model(f"hf:{bert_folder}").digest
    with torch.no_grad():
        encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
        expected = bert.module(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits
    found = bert.predict(Batch(TEXTS, torch.zeros(4), list("abcd")))
    assert torch.allclose(found, expected, atol=1e-5)
    alone = torch.cat([bert.predict(Batch([t], torch.zeros(1), ["a"])) for t in TEXTS])
    assert torch.allclose(found, alone, atol=1e-5)


def test_a_hugging_face_model_asks_for_its_tokenizer_and_for_classes_it_does_not_name(tokenizer):
    with pytest.raises(CaromError, match=r"tokenizer and classes of BertForSequenceClassification: pass tokenizer="):
        load_model(tiny_bert())
    with pytest.raises(CaromError, match=r"cannot know the classes of BertForSequenceClassification: pass classes="):
        load_model(tiny_bert(), tokenizer=tokenizer)
    model = load_model(tiny_bert(), tokenizer=tokenizer, classes=CLASSES)
    assert model(TEXTS).logits.shape == (4, 2)
    assert load_model(model) is model
    assert load_model(tiny_bert(["a", "b"]), tokenizer=tokenizer.backend_tokenizer).classes == ("a", "b")


def test_pickled_weights_are_refused_unless_asked_for(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    model = tiny_bert(["bad", "good"])
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CaromError, match="allow_pickle=true"):
        load_model(f"hf:{tmp_path}")


def test_decoders_without_padding_read_several_texts_at_once(tokenizer):
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    gpt = GPT2ForSequenceClassification(
        GPT2Config(vocab_size=65, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    ).eval()
    gpt.config.pad_token_id = None
    with pytest.raises(CaromError, match="pad_token_id"):
        load_model(gpt, tokenizer=tokenizer, classes=CLASSES)
    gpt.config.pad_token_id = 0
    model = load_model(gpt, tokenizer=tokenizer, classes=CLASSES)
    together = model(TEXTS).logits
    assert torch.allclose(together, torch.cat([model([t]).logits for t in TEXTS]), atol=1e-5)
    words = [w.span for w in split_words(TEXTS[0])]
    (grad,) = model.word_gradient(TEXTS[:1], Goal(torch.tensor([0])), [words])
    assert grad.any(1).all()


def test_texts_are_cut_at_the_limit(bert):
    long = "good " * 500
    assert len(bert.codes([long])[0]) == 40
    words = [w.span for w in split_words(long)]
    (grad,) = bert.word_gradient([long], Goal(torch.tensor([0])), [words])
    assert grad.shape == (500, 16)
    assert grad[:38].any(1).all()
    assert not grad[38:].any()


@pytest.mark.parametrize("text", ["\ud800 good", "\0", "😀 good", "שלום", "a" * 3000, "\n\t", "word" * 400])
def test_odd_texts_are_read(bert, networks, text):
    for model in (bert, *networks.values()):
        assert model([text, "good film"]).logits.isfinite().all()
        spans = [w.span for w in split_words(text)]
        (grad,) = model.word_gradient([text], Goal(torch.tensor([0])), [spans])
        assert len(grad) == len(spans)
        assert grad.isfinite().all()


def moved(model, text, span, step):
    """The margin against class 0 with all tokens of one word moved by `step` in the embedding."""
    _, tokens = model._encode([text])
    mask = torch.tensor(
        [float(stop > span[0] and start < span[1] and stop > start) for start, stop in tokens[0]]
    ).double()
    hook = model.embedding.register_forward_hook(lambda m, a, out: out + (mask[:, None] * step)[None])
    try:
        with torch.no_grad(), model.frozen():
            logits = model([text]).logits.double()[0]
    finally:
        hook.remove()
    return (logits[1] - logits[0]).item()


def test_the_gradient_at_a_word_is_summed_over_its_pieces(bert, networks):
    text = "a moving story, unbelievably good film !"
    words = split_words(text)
    for found in (bert, *networks.values()):
        module = copy.deepcopy(found.module).double()
        model = load_model(module, tokenizer=found.encoder, classes=CLASSES)
        (grad,) = model.word_gradient([text], Goal(torch.tensor([0])), [[w.span for w in words]])
        torch.manual_seed(1)
        for i in range(len(words)):
            step = torch.randn(grad.shape[1], dtype=torch.float64) * 1e-6
            slope = (moved(model, text, words[i].span, step) - moved(model, text, words[i].span, -step)) / 2
            assert slope == pytest.approx(float(grad[i] @ step), rel=1e-3, abs=1e-11)


def test_gradients_do_not_depend_on_padding(bert, networks, sentences):
    spans = [[w.span for w in split_words(t)] for t in sentences]
    goal = Goal(torch.arange(len(sentences)) % 2)
    for model in (bert, *networks.values()):
        together = model.word_gradient(sentences, goal, spans)
        for i, text in enumerate(sentences):
            (alone,) = model.word_gradient([text], goal.take(torch.tensor([i])), [spans[i]])
            assert torch.allclose(alone, together[i], atol=1e-5)


def test_words_are_embedded_as_their_tokens(networks, bert):
    cnn = networks["cnn"]
    film, unknown = cnn.embed_words(["Film", "zzzz"])
    ids = cnn.encoder.encode(["film"])[0]
    assert torch.equal(film, cnn.embedding(ids)[0, 0].detach())
    assert torch.equal(unknown, cnn.embedding.weight[1].detach())
    pieces = bert.codes(["moving"])[0][1:-1]
    assert len(pieces) == 2
    assert torch.allclose(bert.embed_words(["moving"])[0], bert.embedding.weight[list(pieces)].mean(0))


@pytest.mark.parametrize("strategy", [GreedySites("gradient", top=4), GreedySites("unk"), BestEdits(top=8)])
def test_hugging_face_models_are_attacked_through_their_words(bert, sentences, attack, strategy):
    labels = bert(sentences).logits.argmax(1).tolist()
    result = attack(bert, WordBudget(0.5), Substitution(strategy), sentences, labels)
    assert WordBudget(0.5).allows(result.inputs, sentences).all()
    assert result.success.any()


def test_attention_is_that_of_the_first_token_in_the_last_layer(bert, tokenizer):
    texts = ["film moving story", "good ."]
    sentences = [WordBudget(1.0, keep_stop_words=False).editable(text) for text in texts]
    assert Access.FEATURES in bert.access
    with bert.frozen(), torch.no_grad():
        ids = tokenizer(texts[0], return_tensors="pt")["input_ids"]
        before = bert.module.config._attn_implementation
        bert.module.set_attn_implementation("eager")  # which alone shows its weights from transformers 5 on
        wanted = bert.module(input_ids=ids, output_attentions=True).attentions[-1].mean(1)[0, 0].tolist()
        bert.module.set_attn_implementation(before)
    first, second = bert.attention(sentences)
    # [CLS] film mov ##ing story [SEP]
    assert first == pytest.approx([wanted[1], wanted[2] + wanted[3], wanted[4]], abs=1e-5)
    assert bert.attention(sentences[1:])[0] == pytest.approx(second, abs=1e-5)
    assert bert.module.config._attn_implementation == before
    assert not bert.module._forward_hooks
    assert not bert.module._forward_pre_hooks


def test_attention_of_the_zoos_blocks_is_what_they_mix_by(networks):
    block = EncoderBlock(8, 2, 0.0).eval()
    torch.manual_seed(1)
    x, mask = torch.randn(2, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    weights = block.attention(x, mask)
    assert torch.allclose(weights.sum(3), torch.ones(2, 2, 5))
    assert not weights[1, :, :, 2:].any()
    value = block.qkv(block.norm_attention(x)).unflatten(2, (3, 2, -1))[:, :, 2].transpose(1, 2)
    y = x + block.mix((weights @ value).transpose(1, 2).flatten(2))
    y = y + block.forward_out(nn.functional.gelu(block.forward_in(block.norm_forward(y))))
    assert torch.allclose(block(x, mask), y, atol=1e-5)
    assert Access.FEATURES in networks["transformer"].access
    read = networks["transformer"].attention([WordBudget(1.0, keep_stop_words=False).editable("a good film")])[0]
    assert sum(read) == pytest.approx(1, abs=1e-4)


def test_models_without_attention_are_refused(networks, attack):
    assert Access.FEATURES not in networks["cnn"].access
    with pytest.raises(CaromError, match="cnn shows no attention: choose greedy-gradient"):
        attack(networks["cnn"], WordBudget(1.0), Substitution(GreedySites("attention")), ["a good film"], [1])
    function = load_model(lambda texts: np.full((len(texts), 2), 0.5), classes=CLASSES)
    with pytest.raises(CaromError, match="shows no attention"):
        attack(function, WordBudget(1.0), Substitution(GreedySites("attention")), ["a good film"], [0])


def test_words_are_changed_in_the_order_of_attention(toy, monkeypatch):
    world = toy({"good": 1.0, "film": 1.0, "bad": -9.0, "flop": -9.0}, ("good|bad", "film|flop"), share=0.5)
    for weights, first in ([0.2, 0.8], "good flop"), ([0.8, 0.2], "bad film"):
        monkeypatch.setattr(world.model, "attention", lambda examples, w=weights: [w] * len(examples))
        result = world.run(Substitution(GreedySites("attention")), "good film")
        assert result.inputs == [first]
        assert result.cost.queries.tolist() == [1 + 1 + 1]


def test_a_torch_module_says_what_it_needs():
    encoder = WordEncoder(["film", "good"])
    network = WordCnn(len(encoder))
    with pytest.raises(CaromError, match=r"tokenizer and classes of WordCnn"):
        load_model(network)
    model = load_model(network, tokenizer=encoder, classes=CLASSES, name="mine")
    assert (model.name, model.family) == ("mine", Family.CNN)
    assert Access.GRADIENT in model.access
    with pytest.raises(CaromError, match=r"no fact about WordCnn is called 'tokeniser'. Did you mean tokenizer"):
        load_model(network, tokeniser=encoder, classes=CLASSES)
    with pytest.raises(CaromError, match="is not a model"):
        load_model(3, classes=CLASSES)
    with pytest.raises(CaromError, match="tokenizer=3 is none"):
        load_model(network, tokenizer=3, classes=CLASSES)


class Odd(nn.Module):
    """Embeds ids in a layer of an unusual name, and wants a mask."""

    def __init__(self, vocabulary: int, classes: int = 2) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, 4)
        self.other = nn.Embedding(7, 4)
        self.head = nn.Linear(4, classes)

    def forward(self, ids, mask):
        return self.head((self.table(ids) * mask[:, :, None]).sum(1))


def test_the_embedding_is_found_or_named():
    encoder = WordEncoder(["film", "good"])
    shared = {"tokenizer": encoder, "classes": CLASSES}
    assert load_model(Odd(4), **shared).embedding.num_embeddings == 4  # as many as the encoder has ids
    module = Odd(9)
    blind = load_model(module, **shared)
    assert Access.GRADIENT not in blind.access
    with pytest.raises(CaromError, match="embedding="):
        blind.word_gradient(["good"], Goal(torch.tensor([0])), [[(0, 4)]])
    assert load_model(module, embedding="table", **shared).embedding is module.table
    with pytest.raises(CaromError, match="Did you mean table"):
        load_model(module, embedding="tabel", **shared)


def test_layers_that_lead_nowhere():
    encoder = WordEncoder(["film", "good"])
    words = [[(0, 4)]]
    model = load_model(Odd(9), tokenizer=encoder, classes=CLASSES, embedding="other")
    with pytest.raises(CaromError, match="does not call the layer"):
        model.word_gradient(["good"], Goal(torch.tensor([0])), words)
    network = WordCnn(len(encoder))
    network.head.forward = lambda x: torch.zeros(len(x), 2)
    model = load_model(network, tokenizer=encoder, classes=CLASSES)
    (grad,) = model.word_gradient(["good"], Goal(torch.tensor([0])), words)
    assert not grad.any()


def test_the_wrong_number_of_classes_is_named():
    encoder = WordEncoder(["film", "good"])
    model = load_model(Odd(4, classes=3), tokenizer=encoder, classes=CLASSES)
    with pytest.raises(CaromError, match=r"shape \[1, 3\].*classes=\[...\]"):
        model.predict(Batch(["good"], torch.zeros(1), ["a"]))


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A module of the user's own."""
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from carom.text.language.tokenizers import WordEncoder\n"
        "from carom.text.models.networks import WordCnn\n"
        "encoder = WordEncoder(['film', 'good'])\n"
        "def cnn(dim=8):\n"
        "    return WordCnn(4, dim=dim)\n"
        "def shares(texts):\n"
        "    good = np.array([float('good' in t) for t in texts])\n"
        "    return np.stack([1 - good, good], 1) * 0.8 + 0.1\n"
        "def scores(texts):\n"
        "    return shares(texts) * 7\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    sys.modules.pop("mine", None)


def test_functions(code, attack):
    with pytest.raises(CaromError, match="cannot know the classes of py:mine:shares"):
        load_model("py:mine:shares")
    model = load_model("py:mine:shares", classes=CLASSES)
    assert model.access == Access.LABEL | Access.SCORE
    assert model(["good", "bad"]).logits.softmax(1)[:, 1].tolist() == pytest.approx([0.9, 0.1])
    result = attack(model, WordBudget(1.0), Substitution(GreedySites()), ["a good film"], [1])
    assert result.success.all()
    assert result.cost.forward.item() <= result.cost.queries.item()
    with pytest.raises(CaromError, match='answers="logits"'):
        load_model("py:mine:scores", classes=CLASSES)(["good"])
    assert load_model("py:mine:scores?answers=logits&classes=a,b")(["good"]).logits.shape == (1, 2)
    with pytest.raises(CaromError, match="expected one row"):
        load_model(lambda texts: np.ones(3), classes=CLASSES)(["good"])


def test_checkpoints_of_a_factory(code):
    from safetensors.torch import save_file

    from carom.text.models.networks import WordCnn

    torch.manual_seed(0)
    network = WordCnn(4, dim=8)
    save_file(network.state_dict(), code / "cnn.safetensors")
    spec = "safetensors:cnn.safetensors#mine:cnn?dim=8&tokenizer=py:mine:encoder"
    model = load_model(spec, classes=CLASSES)
    assert isinstance(model, TokenModel)
    assert torch.equal(model(["good film"]).logits, network.eval()(torch.tensor([[3, 2]])))
    with pytest.raises(CaromError, match="of another shape"):
        load_model("safetensors:cnn.safetensors#mine:cnn?dim=4&tokenizer=py:mine:encoder", classes=CLASSES)
    torch.save(network.state_dict(), code / "cnn.pt")
    with pytest.raises(CaromError, match="pickle can run any code"):
        load_model("safetensors:cnn.pt#mine:cnn", classes=CLASSES, tokenizer="py:mine:encoder")


def test_pipelines(tmp_path, sentences, attack):
    import skops.io
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    labels = [i % 2 for i in range(len(sentences))]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(sentences, labels)
    skops.io.dump(pipeline, tmp_path / "linear.skops")
    model = load_model(f"sklearn:{tmp_path / 'linear.skops'}", classes=CLASSES)
    assert (model.classes, model.family) == (("negative", "positive"), Family.LINEAR)
    assert np.allclose(model(sentences).logits.softmax(1), pipeline.predict_proba(sentences), atol=1e-5)
    assert model.digest == load_model(pipeline, classes=CLASSES).digest
    result = attack(model, WordBudget(0.5), Substitution(GreedySites()), sentences, labels)
    fell = (model(sentences).logits - model(result.inputs).logits).softmax(1)[torch.arange(10), torch.tensor(labels)]
    assert (fell >= 0.5).all()
    assert (fell > 0.6).sum() >= 5
    named = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(sentences, [CLASSES[i] for i in labels])
    assert load_model(named).classes == ("negative", "positive")


def test_estimators_that_do_not_take_texts_are_refused(tmp_path, sentences):
    import joblib
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(CaromError, match=r"does not take single texts .*make_pipeline"):
        load_model(LogisticRegression().fit(np.eye(4), [0, 1, 0, 1]), classes=CLASSES)
    with pytest.raises(CaromError, match="has not been fitted"):
        load_model(LogisticRegression(), classes=CLASSES)
    joblib.dump(LogisticRegression(), tmp_path / "model.pkl")
    with pytest.raises(CaromError, match="pickle"):
        load_model(f"sklearn:{tmp_path / 'model.pkl'}", classes=CLASSES)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("zoo:text-cn", "Did you mean text-cnn"),
        ("hf:/no/such/folder/anywhere", "no such folder"),
        ("zip:text", "no kind of spec"),
        ("text-cnn", "is not a spec"),
        ("sklearn:/no/such.skops", "no such skops file"),
    ],
)
def test_specs_that_lead_nowhere(spec, says, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CaromError, match=says):
        load_model(spec, classes=CLASSES)
