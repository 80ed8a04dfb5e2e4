"""Build versions of the package side by side, with the same compiler and interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[1]

#: The environment variables with which Python imports one build.
Environment: TypeAlias = dict[str, str]


def said(*words: str | Path, cwd: Path = ROOT, env: Environment | None = None) -> str:
    """Run a program and return its output."""
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd, env=env).stdout.strip()


def fork_of(branch: str) -> str:
    """Return the commit at which HEAD diverged from a branch."""
    return said("git", "merge-base", branch, "HEAD")


def tree_of(commit: str | None, to: Path) -> Path:
    """Copy the files of a commit, or without one, those of the working tree as they are."""
    if commit is not None:
        archive = to.with_suffix(".tar")
        said("git", "archive", "--output", archive, commit)
        shutil.unpack_archive(archive, to)
        return to
    for name in said("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines():
        if (ROOT / name).is_file():  # not deleted
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def built(tree: Path) -> Environment:
    """Build a tree into a directory next to it, and return the environment in which Python imports the build."""
    to = tree.with_name(f"{tree.name}-built")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "install", "--no-build-isolation"]
    said(*pip, "--no-deps", "--target", to, tree, env=os.environ | {"DRAMATIQ_ABORT_EXTENSION": "1"})
    # Nothing else from the environment, so that the user's settings do not affect the results.
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(to), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    imported = "from dramatiq_abort import _interrupt as core; print(core.__file__)"
    core = said(sys.executable, "-c", imported, cwd=to, env=env)
    assert Path(core).is_relative_to(to), core
    return env
