"""Makes assets/lpips-alex.safetensors, the heads of LPIPS that Carom ships.

Source: the PyPI package lpips 0.1.4 (github.com/richzhang/PerceptualSimilarity, BSD 2-clause), whose file
lpips/weights/v0.1/alex.pth holds them; torchmetrics 1.9.0 ships the same bytes. Run:

    python vision/scripts/make_lpips.py lpips/weights/v0.1/alex.pth
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

TARGET = Path(__file__).parents[1] / "assets" / "lpips-alex.safetensors"
SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    source = parser.parse_args().source
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{source}: sha256 {found}, not {SHA256}")
    state = torch.load(source, map_location="cpu", weights_only=True)
    heads = {f"head{number}": state[f"lin{number}.model.1.weight"].flatten().contiguous() for number in range(5)}
    assert all((head >= 0).all() for head in heads.values())
    save_file(heads, TARGET)


if __name__ == "__main__":
    main()
