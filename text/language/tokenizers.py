"""Text to numbers: word ids, word pieces and TF-IDF. Each token knows the characters of the text that it came from."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carom.text.words import Span

PAD, UNKNOWN = 0, 1  # ids of the word encoder

# A word (with its apostrophe, but without a final 's), a final 's, or one punctuation mark.
_TOKEN = re.compile(r"'s\b|\w+(?:'(?!s\b)\w+)*|[^\w\s]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_APOSTROPHES = str.maketrans("’‘", "''")


def tokens(text: str) -> Iterator[tuple[str, Span]]:
    """The tokens of `text` in lower case, each with its span."""
    for match in _TOKEN.finditer(text.translate(_APOSTROPHES)):
        yield match.group().lower(), match.span()


@cache
def vocabulary() -> tuple[tuple[str, float], ...]:
    """(word, inverse document frequency) of the words that the shipped models know, the most frequent first."""
    packed = (Path(__file__).parents[1] / "assets" / "vocabulary.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    return tuple((word, float(idf)) for word, idf in (line.split("\t") for line in lines))


class WordEncoder:
    """Word ids over a fixed vocabulary: 0 is padding, 1 any word that is not in it, 2 the first of `words`."""

    pad_id, unk_id = PAD, UNKNOWN

    def __init__(self, words: Sequence[str], limit: int = 256) -> None:
        """`limit`: how many tokens of a text are read; the rest is left out."""
        self.words = tuple(words)
        self.limit = limit
        self._ids = {word: number for number, word in enumerate(self.words, start=2)}

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self.words) + 2

    # What `carom.text.models.slots` asks: how to cut texts into pieces that are read one by one, and what stands around them.
    piece = re.compile(r"\S+")
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    empty: tuple[int, ...] = (UNKNOWN,)

    def pieces(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each piece of a text, however long: no token reaches over a space."""
        return [tuple(self._ids.get(token, UNKNOWN) for token, _ in tokens(text)) for text in texts]

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, list[list[Span]]]:
        """ids int64[N, L], padded on the right, and the span of every token that is no padding.

        A text without any token is one unknown word of no width, so that no row is all padding.
        """
        read = [list(islice(tokens(text), self.limit)) or [("", (0, 0))] for text in texts]
        rows = [[self._ids.get(token, UNKNOWN) for token, _ in found] for found in read]
        return pad(rows, PAD), [[span for _, span in found] for found in read]


class WordPieceEncoder:
    """The word pieces of a BERT-like model, between its [CLS] and [SEP], which come from no characters."""

    piece = re.compile(r"[\S\x0b\x0c\x1c-\x1f\x85]+")  # control characters are dropped, and separate nothing

    def __init__(self, folder: Path, limit: int = 256) -> None:
        """`folder` holds the model's `tokenizer.json`; `limit` counts [CLS] and [SEP]."""
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(limit)
        self._tokenizer.no_padding()
        self.limit = limit
        self.pad_id = self._tokenizer.token_to_id("[PAD]")
        self.unk_id = self._tokenizer.token_to_id("[UNK]")
        self._whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._whole.no_truncation()
        self._whole.no_padding()
        self.frame = ((self._tokenizer.token_to_id("[CLS]"),), (self._tokenizer.token_to_id("[SEP]"),))
        self.empty: tuple[int, ...] = ()

    def pieces(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of each piece of a text, without [CLS] and [SEP], however long: no token reaches over a space."""
        clean = [_SURROGATE.sub("\ufffd", text) for text in texts]
        return [tuple(e.ids) for e in self._whole.encode_batch(clean, add_special_tokens=False)]

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, list[list[Span]]]:
        """ids int64[N, L], padded on the right, and the span of every piece; [CLS] and [SEP] have no width."""
        encoded = self._tokenizer.encode_batch(list(texts))
        return pad([e.ids for e in encoded], self.pad_id), [e.offsets for e in encoded]


class TfidfEncoder:
    """Word counts times inverse document frequency, each text scaled to length 1; unknown words are left out.

    An empty text is all zeros.
    """

    def __init__(self, words: Sequence[str], idf: Sequence[float]) -> None:
        self.words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        self._idf = np.array(idf, dtype=np.float32)

    def __len__(self) -> int:
        """How many features there are."""
        return len(self.words)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """float32[N, len(self)]."""
        counts = np.zeros((len(texts), len(self)), dtype=np.float32)
        for row, text in enumerate(texts):
            known = [self._ids[token] for token, _ in tokens(text) if token in self._ids]
            np.add.at(counts[row], known, 1)
        weighted = counts * self._idf
        norms = np.linalg.norm(weighted, axis=1, keepdims=True)
        return torch.from_numpy(weighted / np.where(norms == 0, 1, norms))


def pad(rows: Sequence[Sequence[int]], number: int) -> Tensor:
    """int64[N, L]: rows of ids, shorter ones filled with a number on the right."""
    ids = torch.full((len(rows), max(map(len, rows), default=1)), number, dtype=torch.long)
    for row, numbers in enumerate(rows):
        ids[row, : len(numbers)] = torch.tensor(numbers)
    return ids
