"""The templates of the report. A package, so that setuptools ships the files in it."""
