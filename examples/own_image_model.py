"""A torch network of one's own on images: how easily is it fooled, and by attacks made on another model?

It shows how `load_model` wraps a module that you hold, how `attack` crafts on it, and how `transfer` measures what
adversarial examples for a model of the zoo do to it, beside random noise of the same budget.
"""

import torch
from torch import nn

import carom

train = carom.load_data("builtin:fashion-mnist", split="train", limit=2000)
test = carom.load_data("builtin:fashion-mnist", limit=100)


def train_my_network() -> nn.Module:
    """Any module from float[N, 1, 28, 28] in [0, 1] to logits float[N, 10] will do."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2), nn.ReLU()
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 4 * 4, 10))
    adam = torch.optim.Adam(network.parameters(), 2e-3)
    for rows in torch.randperm(len(train)).repeat(4).split(50):
        batch = train.take(rows).batch()
        adam.zero_grad()
        nn.functional.cross_entropy(network(batch.inputs), batch.labels).backward()
        adam.step()
    return network


mine = carom.load_model(train_my_network(), "image", normalise=None, classes=test.classes, name="mine")
crafted = carom.attack(mine, test, "pgd", eps="28/255")  # crafted.stored: uint8[100, 1, 28, 28], within the budget
print(f"white-box: {crafted}")
outcome = carom.transfer(["zoo:image-resnet"], [mine], ["mi-fgsm"], test, eps="28/255")
[cell] = outcome.rows()
print(f"from zoo:image-resnet: T {cell['transfer']:.2f}, noise N {cell['control']:.2f}, excess E {cell['excess']:.2f}")
