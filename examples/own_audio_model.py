"""A torch network of one's own on sounds, with its spectrogram inside, attacked within a signal-to-noise ratio.

It shows what Carom has to be told about a model of sounds (its sample rate), that gradients reach the samples through
the front end, and how far an attack on it transfers to a model of the zoo.
"""

import torch
import torchaudio
from torch import nn

import carom

train = carom.load_data("builtin:keywords", split="train", limit=600)
test = carom.load_data("builtin:keywords", limit=60)


class Spectrogram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, hop_length=320, n_mels=40)

    def forward(self, waves: torch.Tensor) -> torch.Tensor:  # float[N, L] in [-1, 1] -> float[N, 40, frames]
        return (self.mel(waves) + 1e-4).log()


torch.manual_seed(0)
first, second = nn.Conv1d(40, 48, 5, stride=2, padding=2), nn.Conv1d(48, 64, 5, padding=2)  # short sounds too
layers = first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveMaxPool1d(1)
network = nn.Sequential(Spectrogram(), nn.BatchNorm1d(40), *layers, nn.Flatten(), nn.Linear(64, 10))
adam = torch.optim.Adam(network.parameters(), 3e-3)
for rows in torch.randperm(len(train)).repeat(4).split(50):
    batch = train.take(rows).batch()
    adam.zero_grad()
    nn.functional.cross_entropy(network(batch.inputs), batch.labels).backward()
    adam.step()

mine = carom.load_model(network, "audio", sample_rate=16_000, classes=test.classes, name="mine")
outcome = carom.transfer([mine], [mine, "zoo:audio-gru"], ["mi-fgsm"], test, threat="snr", eps=25)
for cell in outcome.rows():
    print(f"mine -> {cell['target']}: E {cell['excess']:.2f} [{cell['excess_low']:.2f}, {cell['excess_high']:.2f}]")
