"""Several models as one source: does an attack on an ensemble transfer further than one on its members?

It shows `carom.ensemble`, an attack that reads the members one by one (SVRE), and a comparison on a model that none of
the sources has seen. A stronger source pays for itself only if its interval lies above the others'.
"""

import carom

data = carom.load_data("builtin:fashion-mnist", limit=100)
members = [carom.load_model(f"zoo:image-{name}") for name in ("resnet", "vgg")]
together = carom.ensemble(members, fuse="logits", name="both")

for sources, attack in ((members, "mi-fgsm"), ([together], "mi-fgsm"), ([together], "svre")):
    outcome = carom.transfer(sources, ["zoo:image-vit"], [attack], data, eps="28/255")
    for cell in outcome.rows():
        interval = f"[{cell['excess_low']:.2f}, {cell['excess_high']:.2f}]"
        print(f"{attack} on {cell['source']}: E {cell['excess']:.2f} {interval}, {cell['backward']:.0f} gradients")
