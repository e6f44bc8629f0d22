"""Tools that know the language: vocabularies, WordNet, vectors, language models."""
