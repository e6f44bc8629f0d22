"""Text models that read tokens: networks whose words are embedded.

Every model is called with list[str]; tokenising happens inside. What a model reads of a text (its token ids) is known
to the search engine, which sends texts that read the same only once; networks that embed tokens also grant the
gradient at every word.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from carom.common.attacks.edits.editable import Edit, Gains
from carom.common.attacks.edits.scheduler import CELLS as NEAR
from carom.common.base.errors import CaromError
from carom.common.base.identity import digest_of
from carom.common.core.batch import Access, Batch, Family, Goal
from carom.common.core.model import MISFITS
from carom.common.core.objectives import margin
from carom.common.core.precision import casting
from carom.common.models.answers import on_sides, read_logits
from carom.common.models.company import differ, of_equal_length, tell, what_moves
from carom.common.models.networks import FrozenModule
from carom.text.models.attention import attends, recorded
from carom.text.models.base import Encoder, TextModel, encoder_facts
from carom.text.models.networks import Changes
from carom.text.models.pairs import PairTokens, check_pairs
from carom.text.models.slots import Slots, Splice, slots_of
from carom.text.sentence import Sentence
from carom.text.space import Words
from carom.text.words import Span

ROWS, CELLS = 64, 8192  # rows and tokens differentiated at once
ON_GPU = 16  # times as many on a GPU, which is idle until there are many


MOVED = 4096  # rows worked out from others at once


REMEMBERED = 1 << 16  # words whose embeddings are kept


class TokenModel(TextModel):
    """A torch module over token ids int64[N, L].

    It is called with `input_ids` and `attention_mask` if its forward takes those, with (ids, mask bool[N, L]) if it
    takes a `mask`, else with the ids. `embedding`, the submodule that embeds the ids, grants gradients. With an encoder
    of `pairs` it takes pairs of texts.
    """

    guides = ("gains", "word_gradient", "embed_words")

    def __init__(
        self,
        module: nn.Module,
        encoder: Encoder,
        *,
        name: str,
        family: Family | str,
        classes: Sequence[str],
        embedding: nn.Module | None = None,
        digest: str | None = None,
        threshold: float | None = None,
    ) -> None:
        own: list[object] = [] if threshold is None else [threshold]
        own += [f"embedded by {name}" for name, part in module.named_modules() if part is embedding]
        digest = digest or digest_of(module, encoder_facts(encoder), *own)
        space = Words(pairs=getattr(encoder, "pairs", False))
        super().__init__(name, "text", family, space, classes, digest)
        self.module, self.encoder, self.embedding, self.threshold = module, encoder, embedding, threshold
        self.access = Access.LABEL | Access.SCORE
        if embedding is not None:
            self.access |= Access.GRADIENT
        if attends(module) is not None:
            self.access |= Access.FEATURES
        takes = inspect.signature(module.forward).parameters
        self._takes = next((style for style in ("attention_mask", "mask") if style in takes), "ids")
        self._freeze = FrozenModule(module)
        self._rows: dict[str, int] = {}  # word -> its row of _vectors
        self._vectors = torch.zeros(0, 0)
        self._pieces: dict[str, tuple[int, ...]] = {}
        self.alone = False  # whether each text is read by itself, because company changes the answers
        self.padded = True  # whether texts are padded to be read together
        self.padded = self._stands_padding()

    def _stands_padding(self) -> bool:
        """Whether a short text is answered alike alone and padded to a long one; tried on a few ids. What cannot be tried
        is taken to stand it."""
        size = getattr(self.embedding, "num_embeddings", None)
        pad = self.encoder.pad_id
        ids = [number for number in range(min(size or 8, 12)) if number != pad]
        if len(ids) < 3 or isinstance(self.encoder, PairTokens):
            return True
        short, long = tuple(ids[:2]), tuple((ids * 3)[:9])
        try:
            with self.frozen(), torch.inference_mode():
                alone, beside = self._read_padded([short]), self._read_padded([short, long])[:1]
        except (CaromError, *MISFITS):
            return True
        self._notice_padding(beside, alone, "2 tokens padded to 9")
        return self.padded

    def _notice_padding(self, padded: Tensor, alone: Tensor, what: str) -> None:
        if differ(alone, padded):
            self.padded = False
            moved = float((alone - padded).abs().max())
            self.facts["padding"] = (
                f"padding moves the module's answers ({what} move a logit by {moved:.2g}): texts of equal length are read "
                "together, without any"
            )

    def slots(self, example: Any) -> Slots | None:
        return slots_of(example, self.encoder, self._pieces)

    def to(self, device: torch.device | str) -> TokenModel:
        self.module.to(device)
        self._rows = {}
        super().to(device)
        return self

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        with self._freeze():
            yield

    def _encode(self, texts: Sequence[str]) -> tuple[list[tuple[int, ...]], list[list[Span]]]:
        # Tokenisers written in Rust refuse lone surrogates.
        texts = self.space.clamp(texts)
        if getattr(self.encoder, "pairs", False):
            check_pairs(texts, self.name)
        ids, spans = self.encoder.encode(texts)
        return [tuple(row[: len(own)]) for row, own in zip(ids.tolist(), spans, strict=True)], spans

    def codes(self, inputs: Sequence[str]) -> list[tuple[int, ...]]:
        return self._encode(inputs)[0]

    def settle(self, batch: Batch, width: int | None) -> None:
        """Find out, on a few texts, whether padding or company changes the answers."""
        super().settle(batch, width)
        codes = self.codes(list(batch.inputs))
        shortest = min(map(len, codes))
        cut = [code[:shortest] for code in codes]
        with self.frozen(), torch.inference_mode():
            what = what_moves(self._read_padded(cut), lambda row: self._read_padded([cut[row]]))
            self.alone = tell(self, what)
            if what is None and self.padded and shortest < max(map(len, codes)):
                together, alone = self._read_padded(codes), [self._read_padded([code]) for code in codes]
                self._notice_padding(together, torch.cat(alone), "these texts together")

    def read(self, codes: Sequence[tuple[int, ...]]) -> Tensor:
        if not codes:
            return torch.zeros(0, len(self.classes))
        if self.alone:
            return torch.cat([self._read_padded([code]) for code in codes])
        lengths = torch.tensor([len(code) for code in codes])
        if not self.padded and lengths.min() < lengths.max():
            groups = of_equal_length(lengths)
            answers = torch.cat([self._read_padded([codes[i] for i in rows.tolist()]) for rows in groups])
            return answers[torch.cat(groups).argsort().to(answers.device)]
        return self._read_padded(codes)

    def _count_together(self, codes: Sequence[tuple[int, ...]], order: Sequence[int]) -> int:
        """How many of the texts of `order`, the longest first, go through the module at once."""
        width = len(codes[order[0]])
        wider = 1 if self.device.type == "cpu" else ON_GPU
        count = 1 if self.alone else max(1, min(wider * ROWS, wider * CELLS // width))
        if not self.padded:
            count = min(count, sum(len(codes[i]) == width for i in order))
        return count

    def _read_padded(self, codes: Sequence[tuple[int, ...]]) -> Tensor:
        """Logits of texts padded to the longest of them."""
        lengths = torch.tensor([len(code) for code in codes])
        width, pad = max(map(len, codes)), self.encoder.pad_id
        ids = torch.tensor([[*code, *[pad] * (width - len(code))] for code in codes], device=self.device)
        mask = (torch.arange(width) < lengths[:, None]).to(self.device)
        with casting(ids.device):
            if self._takes == "attention_mask":
                types: dict[str, Tensor] = {}
                if isinstance(self.encoder, PairTokens):
                    ids, of_tokens = self.encoder.split(ids)
                    types = {} if of_tokens is None else {"token_type_ids": of_tokens}
                answer = self.module(input_ids=ids, attention_mask=mask.long(), **types)
            else:
                answer = self.module(ids, mask) if self._takes == "mask" else self.module(ids)
        classes = len(self.classes) if self.threshold is None else 1
        logits = read_logits(answer, len(codes), classes, self.name)
        return self._logits(logits.float() if logits.dtype == torch.bfloat16 else logits)

    def _logits(self, answer: Tensor) -> Tensor:
        return answer if self.threshold is None else on_sides(answer, self.threshold, self.name)

    @property
    def moves_rows(self) -> bool:
        """Whether the module answers rows of which one id changed for less than whole ones."""
        return hasattr(self.module, "moved") and self.device.type == "cpu"

    def moved(self, bases: Sequence[tuple[int, ...]], changes: Sequence[tuple[int, Splice]]) -> Tensor:
        """Logits float[R, C] of rows that are bases[i] but for one splice: (i, splice)."""
        if hasattr(self.module, "pays") and not self.module.pays(len(changes)):  # type: ignore[operator]
            return self._read_all([(*bases[i][:start], *new, *bases[i][stop:]) for i, (start, stop, new) in changes])
        width = max(map(len, bases))
        ids = torch.tensor([[*base, *[self.encoder.pad_id] * (width - len(base))] for base in bases])
        most = max(1, *(len(new) for _, (_, _, new) in changes))
        table = [[i, start, stop, len(new), *new, *[0] * (most - len(new))] for i, (start, stop, new) in changes]
        rows, start, stop, count, *new = torch.tensor(table).T
        every = Changes(rows, start, stop, torch.stack(new, 1), count)
        answers = [self.module.moved(ids, part) for part in every.split(MOVED)]  # type: ignore[operator]
        return self._logits(torch.cat(answers))

    def _read_all(self, codes: Sequence[tuple[int, ...]]) -> Tensor:
        """Logits of any number of rows, of like length together."""
        order, parts = sorted(range(len(codes)), key=lambda i: -len(codes[i])), []
        for at in range(0, len(order), 2 * ROWS):
            some = [codes[i] for i in order[at : at + 2 * ROWS]]
            step = max(1, NEAR // len(some[0]))
            parts += [self.read(some[a : a + step]) for a in range(0, len(some), step)]
        return torch.cat(parts)[torch.tensor(order).argsort()]

    def word_gradient(
        self,
        texts: Sequence[str],
        goal: Goal,
        spans: Sequence[Sequence[Span]],
        shifts: Sequence[Tensor | None] | None = None,
    ) -> list[Tensor]:
        """float[words, d] on the CPU for each text: the gradient of the margin (`objectives.margin`) at the embeddings
        of the words at `spans` (in order), summed over each word's tokens; zero for words that are not read. `shifts`
        float[words, d] are added to the embeddings of each word's tokens first.

        One forward and one backward row for each text.
        """
        if self.embedding is None:
            raise CaromError(f'model {self.name} grants no gradient: name its layer with embedding="path.to.layer".')
        codes, tokens_of = self._encode(texts)
        found: dict[int, Tensor] = {}
        order = sorted(range(len(codes)), key=lambda i: -len(codes[i]))
        with self.frozen():
            while order:
                count = self._count_together(codes, order)
                part, order = order[:count], order[count:]
                moved = None
                if shifts is not None and any(shifts[i] is not None for i in part):
                    width = len(codes[part[0]])
                    moved = torch.stack([_per_token(shifts[i], tokens_of[i], spans[i], width) for i in part])
                grad = self._embedding_gradient([codes[i] for i in part], goal.take(torch.tensor(part)), moved)
                found.update(zip(part, _per_word(grad, [(tokens_of[i], spans[i]) for i in part]), strict=True))
        return [found[i] for i in range(len(codes))]

    def _embedding_gradient(self, codes: Sequence[tuple[int, ...]], goal: Goal, moved: Tensor | None = None) -> Tensor:
        """float[N, L, d]: d margin / d what the embedding layer answers, whatever the module makes of it; at that
        answer plus `moved`, if given."""
        answers: list[Tensor] = []

        def intercept(_: nn.Module, __: Any, answer: Tensor) -> Tensor:
            answer = answer.detach()
            answers.append((answer if moved is None else answer + moved.to(answer)).requires_grad_())
            return answers[-1]

        assert self.embedding is not None
        hook = self.embedding.register_forward_hook(intercept)
        try:
            with torch.enable_grad():
                loss = margin(self._read_padded(codes).cpu(), goal).sum()
        finally:
            hook.remove()
        if not answers:
            raise CaromError(f"model {self.name} does not call the layer it embeds with: name another with embedding=.")
        if not loss.requires_grad:  # nothing of the embedding reaches the answer
            return torch.zeros_like(answers[0], device="cpu")
        (grad,) = torch.autograd.grad(loss, answers[0], materialize_grads=True)
        return grad.cpu()

    def attention(self, examples: Sequence[Sentence]) -> list[list[float]]:
        """For each sentence, how much the last layer attends to the words of its sites, mean over heads and summed over
        each word's tokens: from the first token, where it is the one that the answer is read from ([CLS]); else from
        all tokens, on average. One forward row for each text."""
        part = attends(self.module)
        if part is None:
            raise self._no_attention()
        codes, tokens_of = self._encode([sentence.text for sentence in examples])
        first = getattr(getattr(self.encoder, "tokenizer", None), "cls_token_id", None)
        found: dict[int, list[float]] = {}
        order = sorted(range(len(codes)), key=lambda i: -len(codes[i]))
        while order:
            count = self._count_together(codes, order)
            now, order = order[:count], order[count:]
            with self.frozen(), torch.inference_mode(), recorded(part) as maps:
                self._read_padded([codes[i] for i in now])
            if not maps:
                raise self._no_attention()
            for i, of_heads in zip(now, maps[-1], strict=True):
                table, length = of_heads.mean(0).float().cpu(), len(codes[i])
                pooled = table[0] if codes[i][0] == first else table[:length].mean(0)
                spans = [examples[i].word(site).span for site in range(len(examples[i].sites))]
                (received,) = _per_word(pooled[None, :length, None], [(tokens_of[i], spans)])
                found[i] = received[:, 0].tolist()
        return [found[i] for i in range(len(codes))]

    def _no_attention(self) -> CaromError:
        return CaromError(
            f"model {self.name} shows no attention: choose greedy-gradient, or greedy-unk, which only asks it."
        )

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """float[n, d] on the CPU: each word's own embedding, the mean over its tokens; zero if it has none."""
        new = [word for word in dict.fromkeys(words) if word not in self._rows]
        if len(self._rows) + len(new) > REMEMBERED:
            self._rows, new = {}, list(dict.fromkeys(words))
        if new:
            vectors = torch.cat([self._embed(new[at : at + 1024]) for at in range(0, len(new), 1024)])
            self._vectors = torch.cat([self._vectors, vectors]) if self._rows else vectors
            self._rows.update((word, row) for row, word in enumerate(new, start=len(self._rows)))
        return self._vectors[torch.tensor([self._rows[word] for word in words], dtype=torch.long)]

    def _embed(self, words: Sequence[str]) -> Tensor:
        assert self.embedding is not None
        # As in the middle of a text: the space is part of the token for some tokenisers.
        ids, spans = self.encoder.encode([f" {word}" for word in words])
        inside = torch.zeros(ids.shape)
        for row, own in enumerate(spans):
            inside[row, : len(own)] = torch.tensor([float(stop > start) for start, stop in own])
        with torch.inference_mode():
            vectors = self.embedding(ids.to(self.device)).cpu()
        return ((vectors * inside[:, :, None]).sum(1) / inside.sum(1, keepdim=True).clamp_min(1)).clone()

    def gains(
        self, edits: Sequence[tuple[Sentence, Edit]], goal: Goal, mixtures: Sequence[Gains | None] | None = None
    ) -> list[Gains]:
        """What each option would add to the margin: the gradient at its word times the difference of embeddings
        (Ebrahimi et al. 2018, HotFlip). Where words are several tokens, these move by the difference of the means."""
        texts = [sentence.edit(edit) for sentence, edit in edits]
        spans = [sentence.spans(edit) for sentence, edit in edits]
        shifts = None
        if mixtures is not None and any(mixture is not None for mixture in mixtures):
            shifts = [
                None if mixture is None else self._shift(sentence, mixture)
                for (sentence, _), mixture in zip(edits, mixtures, strict=True)
            ]
        gradients = self.word_gradient(texts, goal, spans, shifts)
        words = [[text[a:b] for a, b in own] for text, own in zip(texts, spans, strict=True)]
        found: list[Gains] = []
        sizes = [sum(sentence.sizes) for sentence, _ in edits]
        while len(found) < len(edits):
            start, stop, options = len(found), len(found), 0
            while stop < len(edits) and (stop == start or options + sizes[stop] <= CELLS):
                options += sizes[stop]
                stop += 1
            sentences = [sentence for sentence, _ in edits[start:stop]]
            found += self._gains(sentences, words[start:stop], gradients[start:stop])
        return found

    def _shift(self, sentence: Sentence, mixture: Gains) -> Tensor:
        """float[sites, d]: how far a mixture of options moves each word's embeddings."""
        now = self.embed_words([sentence.word(site).text for site in range(len(sentence.sites))])
        if not sum(sentence.sizes):
            return torch.zeros_like(now)
        shares = torch.tensor([value for own in mixture for value in own], dtype=now.dtype)
        then = self.embed_words([option for options in sentence.options for option in options])
        owner = torch.arange(len(now)).repeat_interleave(torch.tensor(sentence.sizes))
        return torch.zeros_like(now).index_add_(0, owner, shares[:, None] * (then - now[owner]))

    def _gains(
        self, sentences: Sequence[Sentence], words: Sequence[Sequence[str]], gradients: Sequence[Tensor]
    ) -> list[Gains]:
        now = [word for own in words for word in own]
        then = [option for sentence in sentences for options in sentence.options for option in options]
        sizes = [size for sentence in sentences for size in sentence.sizes]
        gains: list[float] = []
        if then:
            vectors, gradient = self.embed_words([*now, *then]), torch.cat(list(gradients)).double()
            repeats = torch.tensor(sizes)
            stays = (vectors[: len(now)] * gradient).sum(1)
            moves = (vectors[len(now) :] * gradient.repeat_interleave(repeats, 0)).sum(1)
            gains = (moves - stays.repeat_interleave(repeats)).tolist()
        ends = [0, *accumulate(sizes)]
        parts = iter([gains[a:b] for a, b in pairwise(ends)])
        return [list(islice(parts, len(sentence.sizes))) for sentence in sentences]


def _shared(read: Sequence[Span], words: Sequence[Span]) -> list[tuple[int, int]]:
    """(word, token) of every word and token that share a character."""
    pairs, first = [], 0
    for word, (start, stop) in enumerate(words):
        while first < len(read) and read[first][1] <= start:
            first += 1
        at = first
        while at < len(read) and read[at][0] < stop:
            if read[at][1] > max(start, read[at][0]):
                pairs.append((word, at))
            at += 1
    return pairs


def _per_word(grad: Tensor, spans: Sequence[tuple[Sequence[Span], Sequence[Span]]]) -> list[Tensor]:
    """For each row of grad float[N, L, d], given the spans of its tokens and of its words: float[words, d], what its
    tokens hold summed over those that share a character with each word."""
    counts = [len(words) for _, words in spans]
    starts = [0, *accumulate(counts)]
    pairs = [
        (starts[row] + word, row * grad.shape[1] + token)
        for row, (read, words) in enumerate(spans)
        for word, token in _shared(read, words)
    ]
    sums = grad.new_zeros(starts[-1], grad.shape[2])
    if pairs:
        to, source = torch.tensor(pairs).T
        sums.index_add_(0, to, grad.flatten(0, 1)[source])
    return list(sums.split(counts))


def _per_token(shift: Tensor | None, read: Sequence[Span], words: Sequence[Span], width: int) -> Tensor:
    """float[width, d]: the shift float[words, d] of each token's word."""
    assert shift is not None
    moved = shift.new_zeros(width, shift.shape[1])
    if pairs := _shared(read, words):
        source, to = torch.tensor(pairs).T
        moved.index_add_(0, to, shift[source])
    return moved
