"""Makes assets/vocabulary.txt.gz: the words that the shipped models know, from the training reviews only.

    python text/scripts/make_vocabulary.py

Words that occur twice in Rotten Tomatoes come first, the most frequent first; then the most frequent words of IMDB
that are not among them. For document frequencies a sentence, or 30 tokens of an IMDB review, is a document, so that
long and short texts weigh words alike.
"""

import argparse
import gzip
import math
from collections import Counter
from pathlib import Path

from carom.text.language import reviews
from carom.text.language.tokenizers import tokens

PIECE = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=14_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "assets" / "vocabulary.txt.gz")
    options = parser.parse_args()

    counts: dict[str, Counter[str]] = {name: Counter() for name in ("rotten-tomatoes", "imdb")}
    documents = 0
    held_by: Counter[str] = Counter()
    for name, count in counts.items():
        for text in reviews.load(name, "train")[0]:
            words = [word for word, _ in tokens(text)]
            count.update(words)
            for start in range(0, len(words), PIECE):
                documents += 1
                held_by.update(set(words[start : start + PIECE]))

    sentences, documents_of_imdb = counts.values()
    chosen = [word for word, n in ranked(sentences) if n >= 2]
    chosen += [word for word, n in ranked(documents_of_imdb) if n >= 2 and sentences[word] < 2]
    lines = (f"{word}\t{math.log((1 + documents) / (1 + held_by[word])) + 1:.4f}\n" for word in chosen[: options.size])
    options.out.write_bytes(gzip.compress("".join(lines).encode("utf-8"), mtime=0))


def ranked(count: Counter) -> list[tuple[str, int]]:
    """The most frequent first; words as frequent as each other in alphabetical order."""
    return sorted(count.items(), key=lambda item: (-item[1], item[0]))


if __name__ == "__main__":
    main()
