"""What another tool crafted, measured on other models without running its attack again.

It shows `replay` on a log as TextAttack writes it (`--log-to-csv`): changed words stand in brackets, and the answers of
the model under attack are in the file. Controls are random changes of as many words.
"""

import csv
import tempfile
from pathlib import Path

import carom

COLUMNS = ["original_text", "perturbed_text", "ground_truth_output", "original_output", "perturbed_output"]
ROWS = [
    ("a [[warm]] and [[funny]] film", "a [[tender]] and [[laughable]] film", 1, 1, 0),
    ("the plot is [[dull]] and slow", "the plot is [[dense]] and slow", 0, 0, 1),
    ("an [[excellent]] cast and a [[clever]] script", "an [[fantabulous]] cast and a [[cunning]] script", 1, 1, 1),
    ("a [[bad]] , [[boring]] mess", "a [[sorry]] , [[tiresome]] mess", 0, 0, 0),
    ("a beautiful , moving [[story]]", "a beautiful , moving [[fib]]", 1, 1, 1),
    ("it is [[stupid]] from start to finish", "it is [[dazed]] from start to finish", 0, 0, 1),
]

with tempfile.TemporaryDirectory() as folder:
    log = Path(folder, "attacks.csv")
    with log.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *ROWS])
    found = carom.AdversarialSet.load(log, "text", classes=["negative", "positive"])
    print(found)
    outcome = carom.replay(found, ["zoo:text-cnn", "zoo:text-linear"])
    for cell in outcome.rows():
        print(f"{cell['target']}: T {cell['transfer']:.2f}, random words N {cell['control']:.2f}, n {cell['n']}")
        print(f"  {cell['warnings'][-1]}")
