"""A gate for continuous integration: a study fails the build when a model is fooled more than is agreed.

It shows `carom run --fail-above` with its exit codes: 0 where every cell stays at or below the bound, 4 where one does
not. In CI the command stands alone, and the same command again finds finished work in the store:

    carom run -m image -s zoo:image-resnet -t zoo:image-vgg -a mi-fgsm --eps 28/255 --fail-above excess=0.3
"""

import subprocess
import sys
import tempfile

MODELS = ["-s", "zoo:image-resnet", "-t", "zoo:image-vgg"]
STUDY = ["run", "-m", "image", *MODELS, "-a", "mi-fgsm", "--eps", "28/255", "--limit", "40", "--quiet"]

with tempfile.TemporaryDirectory() as folder:
    for bound in ("excess=0.9", "excess=0.3"):
        command = [sys.executable, "-m", "carom", *STUDY, "--fail-above", bound, "--out", f"{folder}/run"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        print(f"--fail-above {bound}: exit code {done.returncode}")
        print(done.stderr.strip())
