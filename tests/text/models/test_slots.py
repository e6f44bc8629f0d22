"""Edits read piece by piece are what the encoder reads of the edited text."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carom.common.attacks.edits.editable import BLANK, DROPPED
from carom.text.candidates.characters import CharacterEdits
from carom.text.language.tokenizers import WordEncoder
from carom.text.models import zoo
from carom.text.models.networks import WordCnn
from carom.text.models.rnn import BiLstm
from carom.text.models.slots import Slots
from carom.text.models.tokens import TokenModel
from carom.text.models.transformer import WordTransformer
from carom.text.threats import WordBudget

ALPHABET = st.characters() | st.sampled_from("abs '’-_*@.,\n\t`×\x1c\u00a0s's")


def encoders():
    words = WordEncoder(["good", "film", "don't", "'s", "a", "s", "b"], limit=12)
    return [words, zoo.encoder("text-minilm")]


ENCODERS = encoders()


def agree(encoder, text, picks):
    sentence = WordBudget(1.0, CharacterEdits(), keep_stop_words=False).editable(text)
    slots = Slots(sentence, encoder, {})
    chosen = {}
    for site, size in enumerate(sentence.sizes):
        pick = picks[site % len(picks)]
        if pick in (BLANK, DROPPED) or 0 <= pick < size:
            chosen[site] = pick
    read = [tuple(row[: len(own)]) for text in (sentence.edit(chosen), text) for row, own in [one(encoder, text)]]
    assert slots.row(slots.key(chosen)) == read[0]
    assert slots.row(()) == read[1]
    for site, option in list(chosen.items())[:3]:
        rest = {s: o for s, o in chosen.items() if s != site}
        ((key, change),) = slots.moves(rest, [(site, option)])
        assert slots.row(key) == slots.row(key, change) == read[0]
        if change is not None:
            base, (start, stop, new) = change
            row = list(slots.row(base))
            row[start:stop] = new
            assert tuple(row) == read[0]


def one(encoder, text):
    ids, spans = encoder.encode([text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")])
    return ids[0].tolist(), spans[0]


@settings(deadline=None, max_examples=150)
@given(
    st.text(ALPHABET, max_size=40), st.lists(st.sampled_from([0, 1, 2, 3, BLANK, DROPPED, 9]), min_size=1, max_size=6)
)
@pytest.mark.parametrize("encoder", ENCODERS, ids=["words", "word pieces"])
def test_pieces_read_as_the_whole_text(encoder, text, picks):
    agree(encoder, text, picks)


@pytest.mark.parametrize("encoder", ENCODERS, ids=["words", "word pieces"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "the film’s good",
        "good -film- 's a_b",
        "don’t don't",
        "a,b,good film. b",
        "good film " * 30,
        "[UNK] x[SEP]",
    ],
)
@pytest.mark.parametrize("picks", [[0], [DROPPED], [BLANK, 9], [DROPPED, 1, 9]])
def test_pieces_read_as_the_whole_text_here_too(encoder, text, picks):
    agree(encoder, text, picks)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "network",
    [partial(WordCnn, filters=5), partial(BiLstm, hidden=5), partial(WordTransformer, heads=2)],
    ids=["cnn", "bilstm", "transformer"],
)
def test_rows_worked_out_from_others_are_those_of_the_whole_network(network, length, monkeypatch):
    for kind in (BiLstm, WordTransformer):
        monkeypatch.setattr(kind, "pays", lambda network, rows: True)
    torch.manual_seed(0)
    bases = [torch.randint(1, 20, (n,)).tolist() for n in (length, (length + 1) // 2, length)]
    model = TokenModel(
        network(20, dim=8).double().eval(), WordEncoder([]), name="net", family="other", classes=("a", "b")
    )
    cases = [
        (row, (start, stop, new))
        for row, base in enumerate(bases)
        for start in range(len(base) + 1)
        for stop in range(start, len(base) + 1)
        for new in ((), (7,), (1, 19), (3, 4, 5, 6))
        if len(base) - stop + start + len(new)
    ]
    whole = [tuple(bases[row][:start]) + new + tuple(bases[row][stop:]) for row, (start, stop, new) in cases]
    answers = model.read(whole)
    assert torch.allclose(model.moved([tuple(b) for b in bases], cases), answers, atol=1e-12)
    for kind in (BiLstm, WordTransformer):
        monkeypatch.setattr(kind, "pays", lambda network, rows: False)
    assert torch.allclose(model.moved([tuple(b) for b in bases], cases), answers, atol=1e-12)


def test_edits_behind_what_is_read_of_a_long_text_read_as_the_text_itself():
    sentence = WordBudget(1.0, CharacterEdits(), keep_stop_words=False).editable("good film " * 8)
    slots = Slots(sentence, ENCODERS[0], {})  # reads twelve words
    for at in ({}, {0: BLANK}, {0: DROPPED}):
        moves = slots.moves(at, [(site, 0) for site in range(1, 16)])
        same = [key == slots.key(at) for key, _ in moves]
        seen = 12 if at == {} else 10 if at[0] == BLANK else 13  # an unknown token reads as three
        assert same == [site >= seen for site in range(1, 16)]
        assert all(change is not None for (_, change), known in zip(moves, same, strict=True) if not known)
