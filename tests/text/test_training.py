"""Text networks trained against changes of embeddings and against words put in their place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.models.training import Schedule, fit
from carom.text.defences import DEFENCES
from carom.text.defences.training import Embedded, Substituted, candidates
from carom.text.language.tokenizers import PAD, vocabulary
from carom.text.language.wordnet import synonyms
from carom.text.models.networks import TokenNetwork, WordCnn

LENGTH = 12
ROBUST = (2, 3)  # a word for each class that has no synonyms; it errs at times
WEAK = {4: 5, 5: 4, 6: 7, 7: 6}  # words of class 0 and 1, each with the other's as its synonym
FILLER = range(8, 20)


def table() -> Tensor:
    options = torch.full((20, 2), PAD)
    for word, other in WEAK.items():
        options[word, 0] = other
    return options


def texts(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Texts of up to 12 words: one robust word, right in nine of ten; three weak words that are always right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=generator)
    ids = torch.randint(8, 20, (n, LENGTH), generator=generator)
    wrong = torch.rand(n, generator=generator) < 0.1
    ids[:, 0] = torch.where(wrong, 1 - labels, labels) + 2
    for place in (1, 2, 3):
        ids[:, place] = 4 + 2 * torch.randint(2, (n,), generator=generator) + labels
    ids[:, LENGTH - 2 :] = torch.where(torch.rand(n, 1, generator=generator) < 0.5, ids[:, LENGTH - 2 :], PAD)
    return ids, labels


def trained(method: Embedded | Substituted | None, epochs: int = 12) -> TokenNetwork:
    ids, labels = texts(300, 0)
    torch.manual_seed(0)
    network = WordCnn(20, 8, 8, dropout=0.1)
    schedule = Schedule(epochs, 50, 0.02)
    return fit(network, lambda rows, _: (ids[rows], labels[rows]), torch.arange(300), schedule, 0, method=method)


def swapped(network: TokenNetwork, n: int = 300) -> float:
    """Accuracy after every weak word is replaced by its synonym."""
    ids, labels = texts(n, 5)
    other = table()[:, 0]
    attacked = torch.where(other[ids] != PAD, other[ids], ids)
    with torch.inference_mode():
        return (network(attacked).argmax(1) == labels).float().mean().item()


def test_words_replaced_while_it_learns_make_it_robust_to_them():
    assert swapped(trained(None)) < 0.3
    assert swapped(trained(Substituted(0.3, 2, table, clean=0.5))) > 0.7


def test_only_candidates_take_a_words_place_and_no_more_than_the_share():
    ids, labels = texts(40, 1)
    torch.manual_seed(0)
    network, method = WordCnn(20, 8, 8).train(), Substituted(0.25, 2, table, clean=0.0)
    now, changed = ids, torch.zeros_like(ids, dtype=torch.bool)
    for turn in range(2):
        now, changed = method._replaced(network, ids, now, changed, labels, turn)
    assert bool(changed.any())
    assert torch.equal(now != ids, changed)
    assert torch.equal(now[changed], table()[ids[changed], 0])
    assert bool((changed.sum(1) <= ((ids != PAD).sum(1) * 0.25).floor()).all())
    assert network.training
    assert all(value.grad is None for value in network.parameters())


def test_replacing_words_raises_the_loss():
    ids, labels = texts(200, 1)
    network = trained(None)
    plain = Substituted(0.3, 1, table, clean=1.0).loss(network, ids, labels, torch.Generator(), 0.0)
    attacked = Substituted(0.3, 2, table, clean=0.0).loss(network, ids, labels, torch.Generator(), 0.0)
    assert float(attacked.detach()) > float(plain.detach()) + 0.5


class Linear(TokenNetwork):
    """The sum of the embeddings' first numbers is the logit of class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(20, 4, padding_idx=0)

    def from_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        self.seen = embeddings
        score = (embeddings * mask[:, :, None])[:, :, 0].sum(1)
        return torch.stack([-score, score], 1)


def test_the_climb_in_embeddings_reaches_the_closed_form_and_leaves_padding():
    torch.manual_seed(0)
    network, (ids, labels) = Linear(), texts(30, 2)
    clean = network.embedding(ids).detach()
    Embedded(0.2, steps=8, size=0.5, every=False).loss(network, ids, labels, torch.Generator().manual_seed(0), 0.0)
    network.eval()
    points = []
    method = Embedded(0.2, steps=8, size=0.5, every=True)
    network.register_forward_hook(lambda *_: None)
    original = network.from_embeddings

    def keep(embeddings: Tensor, mask: Tensor) -> Tensor:
        points.append(embeddings.detach())
        return original(embeddings, mask)

    network.from_embeddings = keep  # type: ignore[method-assign]
    method.loss(network, ids, labels, torch.Generator().manual_seed(0), 0.0)
    assert len(points) == 9
    change, inside = points[-1] - clean, ids != PAD
    radius = 0.2 * (clean * inside[:, :, None]).flatten(1).norm(dim=1)
    assert torch.allclose(change.flatten(1).norm(dim=1), radius, rtol=1e-4)
    assert float(change[~inside].abs().max()) < 1e-6
    # All along the first number of the words, against the label.
    best = torch.zeros_like(change)
    best[..., 0] = inside * (1.0 - 2 * labels[:, None])
    best = best / best.flatten(1).norm(dim=1)[:, None, None] * radius[:, None, None]
    assert torch.allclose(change, best, atol=0.05 * float(radius.max()))


@pytest.mark.parametrize("name", ["embedding-at", "freelb"])
def test_it_holds_against_moved_embeddings_where_a_plain_network_does_not(name):
    """Accuracy under a climb of more steps, within the budget that was trained for."""
    eps = 0.4

    def withstands(network: TokenNetwork) -> float:
        ids, labels = texts(300, 5)
        points, original = [], network.from_embeddings
        network.from_embeddings = lambda e, m: points.append((e.detach(), m)) or original(e, m)  # type: ignore[method-assign]
        Embedded(eps, 15, 0.2, every=True).loss(network, ids, labels, torch.Generator().manual_seed(3), 0.0)
        del network.from_embeddings
        with torch.inference_mode():
            return (network.from_embeddings(*points[-1]).argmax(1) == labels).float().mean().item()

    method = DEFENCES[name].build(eps=eps).method()  # type: ignore[union-attr]
    assert withstands(trained(method)) > withstands(trained(None)) + 0.1


def test_candidates_are_synonyms_that_the_models_know():
    options, words = candidates(), [word for word, _ in vocabulary()]
    assert options.shape[0] == len(words) + 2
    assert not options[:2].any()
    for number in (2, 500, 3000):
        named = {words[other - 2] for other in options[number].tolist() if other != PAD}
        assert named <= {one.lower() for one in synonyms(words[number - 2])}
    assert (options != PAD).any(1).float().mean() > 0.5


def test_a_network_without_word_embeddings_is_refused():
    trained_on = torch.nn.Linear(3, 2)
    with pytest.raises(CaromError, match="does not have"):
        Embedded(0.1, 1, 0.5, True).loss(trained_on, torch.zeros(2, 3), torch.tensor([0, 1]), torch.Generator(), 0.0)
