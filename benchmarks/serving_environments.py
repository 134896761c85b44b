"""The environments of the peers, which want other versions of the same packages, of each other's and of ours."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from serving_servers import HERE, PROJECT

ENVIRONMENTS = PROJECT / ".venv-peers"
PINS = HERE / "requirements.txt"


def read_pins() -> dict[str, list[str]]:
    """Returns the requirements of each environment: the lines below each `# === name ===`."""
    _, *parts = re.split(r"^# === (\w+) ===$", PINS.read_text(), flags=re.MULTILINE)
    return {name: text.split("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


def install(peers: Iterable[str]) -> dict[str, Path]:
    """Makes the environments that are not there yet; returns the Python of each that could be made."""
    pins, found = read_pins(), {}
    for peer in peers:
        directory = ENVIRONMENTS / peer
        if _is_installed(directory, pins[peer]) or _install(directory, pins[peer]):
            found[peer] = directory / "bin" / "python"
    return found


def _is_installed(directory: Path, pins: list[str]) -> bool:
    """Tells whether an environment was made of these requirements."""
    noted = directory / "requirements.txt"
    return noted.exists() and noted.read_text().split("\n") == pins


def _install(directory: Path, pins: list[str]) -> bool:
    print(f"installing {directory.name} into {directory.relative_to(PROJECT)}: a minute or two, once", flush=True)
    wanted = directory.with_suffix(".txt")
    wanted.parent.mkdir(exist_ok=True)
    wanted.write_text("\n".join(pins))
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run([*pip, "--requirement", str(wanted)], check=True)
    except subprocess.CalledProcessError as error:
        print(f"{directory.name} is left out, it could not be installed: {error}", flush=True)
        return False
    wanted.rename(directory / "requirements.txt")
    return True
