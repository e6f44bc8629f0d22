"""A scikit-learn pipeline of one's own on texts, attacked by word substitution through its scores alone.

It shows that any fitted estimator of texts is a model, which sentences an attack finds, and how they transfer to a
network of the zoo. The pipeline says its classes itself; Carom asks for what an object cannot tell.
"""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import carom

train = carom.load_data("builtin:rotten-tomatoes", split="train", limit=2000)
test = carom.load_data("builtin:rotten-tomatoes", limit=60)

names = [test.classes[label] for label in train.labels.tolist()]
pipeline = make_pipeline(TfidfVectorizer(min_df=2), LogisticRegression(C=5)).fit(train.stored, names)
mine = carom.load_model(pipeline, "text", name="mine")

crafted = carom.attack(mine, test, "textbugger", eps=0.3)  # at most 30 % of the words change
for before, after, success in zip(test.stored, crafted.stored, crafted.success.tolist(), strict=True):
    if success and before != after:
        print(f"- {before}\n+ {after}")
        break
outcome = carom.transfer([mine], [mine, "zoo:text-cnn"], ["textbugger"], test, eps=0.3)
for cell in outcome.rows():
    print(f"mine -> {cell['target']}: T {cell['transfer']:.2f}, random words N {cell['control']:.2f}, n {cell['n']}")
