"""Makes assets/wordnet.json.gz from the dictionary files of WordNet 3.0 (Debian package `wordnet-base`).

    python text/scripts/make_wordnet.py /usr/share/wordnet

The format of the files is described in the manual pages wndb(5WN) and morphy(7WN).
"""

import argparse
import gzip
import json
import re
from pathlib import Path

MARKER = re.compile(r"\(\w+\)$")  # syntactic markers of adjectives: galore(ip)


def synsets(path: Path, phrases: set[str]) -> list[str]:
    """The lemmas of every synset that are single words or among `phrases`, separated by spaces, each set once."""
    found: dict[str, None] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(" "):  # the licence
                continue
            # offset, file number, part of speech, number of words in hexadecimal, then word and sense in turn
            fields = line.split(" ")
            words = (MARKER.sub("", word) for word in fields[4 : 4 + 2 * int(fields[3], 16) : 2])
            if kept := " ".join(word for word in words if "_" not in word or word in phrases):
                found[kept] = None
    return list(found)


def antonyms(dictionary: Path) -> list[str]:
    """Pairs of single words that WordNet calls opposites, in lower case and alphabetical order."""
    words: dict[tuple[str, str], list[str]] = {}  # (part of speech, offset) -> the words of the synset
    links: list[tuple[tuple[str, str], int, tuple[str, str], int]] = []
    for part, sign in (("noun", "n"), ("verb", "v"), ("adj", "a"), ("adv", "r")):
        with (dictionary / f"data.{part}").open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith(" "):
                    continue
                fields = line.split(" ")
                count = int(fields[3], 16)
                here = (sign, fields[0])
                words[here] = [MARKER.sub("", word).lower() for word in fields[4 : 4 + 2 * count : 2]]
                at = 4 + 2 * count
                for n in range(
                    int(fields[at])
                ):  # symbol, offset, part of speech, source and target word in hexadecimal
                    symbol, offset, kind, ends = fields[at + 1 + 4 * n : at + 5 + 4 * n]
                    if symbol == "!":
                        links.append((here, int(ends[:2], 16), (kind, offset), int(ends[2:], 16)))
    pairs = {tuple(sorted((words[a][i - 1], words[b][j - 1]))) for a, i, b, j in links if i and j}
    return sorted(" ".join(pair) for pair in pairs if "_" not in pair[0] + pair[1])


def exceptions(path: Path) -> dict[str, str]:
    """Inflected form -> its base forms, separated by spaces."""
    with path.open(encoding="utf-8") as lines:
        pairs = (line.split() for line in lines)
        return {form: " ".join(bases) for form, *bases in pairs if "_" not in form}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", type=Path, help="folder with data.noun, noun.exc and their like")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "assets" / "wordnet.json.gz")
    options = parser.parse_args()
    table: dict[str, object] = {}
    for part in ("noun", "verb", "adj", "adv"):
        irregular = exceptions(options.dictionary / f"{part}.exc")
        # The base of a single word may be a phrase ("comics": "comic_strip"), whose synset then counts too.
        phrases = {base for bases in irregular.values() for base in bases.split() if "_" in base}
        table[part] = {"synsets": synsets(options.dictionary / f"data.{part}", phrases), "exceptions": irregular}
    table["antonyms"] = antonyms(options.dictionary)
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    options.out.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


if __name__ == "__main__":
    main()
