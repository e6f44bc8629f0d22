"""Input reduction keeps the answer and drops what it does not hang on."""

from __future__ import annotations

from carom.text.attacks.input_reduction import reduce_inputs


def test_only_what_the_answer_needs_is_left(toy, networks, sentences):
    world = toy({"good": 2.0, "poor": -1.0, "film": 0.5, "the": 0.1}, ())
    texts = ["the poor film was good", "poor", "", "poor film"]
    assert reduce_inputs(world.model, texts) == ["good", "poor", "", "poor"]
    model = networks["cnn"]
    reduced = reduce_inputs(model, sentences)
    assert model(reduced).logits.argmax(1).tolist() == model(sentences).logits.argmax(1).tolist()
    assert sum(map(len, reduced)) < 0.5 * sum(map(len, sentences))
    assert reduce_inputs(model, sentences[3:4]) == reduced[3:4]
    assert reduce_inputs(model, []) == []
