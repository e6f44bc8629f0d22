"""A new modality in one folder: rows of a table with trees on them, attacked by the attacks that Carom has.

It shows a `Modality` that installs by an entry point: the folder carom_tables-1.0.dist-info beside this file is what
pip makes of the lines in a package's pyproject.toml, so the example runs without being installed. Everything that
Carom does with images it does with rows: attacks by name, transfer with controls, the command line.
"""

import os
import subprocess
import sys

import carom

data = carom.load_data("builtin:tumours", limit=60)
models = [
    carom.load_model(f"py:carom_tables.models:fitted?kind={name}", "table", name=name) for name in ("forest", "boosted")
]
crafted = carom.attack(models[0], data, "leaf-path", eps=0.1)  # no column moves by more than a tenth of its range
print(crafted)
logistic = carom.load_model("py:carom_tables.models:fitted?kind=logistic", "table", name="logistic")
for cell in carom.transfer(models, [*models, logistic], ["leaf-path"], data, eps=0.1).rows():
    line = f"{cell['source']} -> {cell['target']}: T {cell['transfer']:.2f}, N {cell['control']:.2f}"
    print(f"{line}, E {cell['excess']:.2f}, {cell['size']['l0']['median']:.0f} columns changed")

here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # of a package that is not installed
command = [sys.executable, "-m", "carom", "list", "data", "--modality", "table"]
print(subprocess.run(command, env=here, capture_output=True, text=True, check=True).stdout.strip())
