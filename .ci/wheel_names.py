"""Check that cibuildwheel builds a wheel for each promised version of Python on each platform, and no others.

cibuildwheel knows the interpreters, pyproject.toml selects from them, and the classifiers are the promise.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

#: By system: the architectures, and the platform tags of wheels.
PLATFORMS = {
    "linux": ("x86_64,aarch64", "manylinux_x86_64 manylinux_aarch64 musllinux_x86_64 musllinux_aarch64"),
    "macos": ("x86_64,arm64", "macosx_x86_64 macosx_arm64"),
    "windows": ("AMD64,ARM64", "win_amd64 win_arm64"),
}
CLASSIFIER = "Programming Language :: Python :: 3."

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
minors = [name.removeprefix(CLASSIFIER) for name in project["classifiers"] if name.startswith(CLASSIFIER)]
wrong = []
for system, (architectures, platforms) in PLATFORMS.items():
    words = [sys.executable, "-m", "cibuildwheel", "--platform", system, "--archs", architectures]
    found = subprocess.run([*words, "--print-build-identifiers"], check=True, stdout=subprocess.PIPE, text=True).stdout
    promised = {f"cp3{minor}-{platform}" for minor in minors for platform in platforms.split()}
    wrong += [f"missing wheel: {name}" for name in sorted(promised - set(found.split()))]
    wrong += [f"wheel without a classifier: {name}" for name in sorted(set(found.split()) - promised)]
sys.exit("\n".join(wrong) or None)
