"""Maps the top-level folders into one package: vision/ is installed as carom/vision/."""

from setuptools import find_packages, setup

FOLDERS = ("vision", "audio", "text", "common", "benchmarks")
MODULES = [
    f"carom.{package}"
    for folder in FOLDERS
    for package in (folder, *(f"{folder}.{sub}" for sub in find_packages(folder)))
    if "_root" not in package
]

setup(
    packages=["carom", *MODULES],
    package_dir={"carom": "common/_root", **{f"carom.{folder}": folder for folder in FOLDERS}},
)
