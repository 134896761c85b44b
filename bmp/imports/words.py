"""What a person is told of an import."""

from typing import Any

from rich.console import Console

from bmp.artifact.manifest import Imported
from bmp.artifact.table import say_metrics
from bmp.imports.answers import Converted, Proven, read_signature

PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
"""Of `Console.print`: names of files are no markup."""


def tell(console: Console, found: Converted, proof: Proven, imported: Imported) -> None:
    """Prints what was found, how it was read, and how far each format is from it."""
    signature = read_signature(found)
    guess = ", a guess: --objective says otherwise" if found.guessed else ""
    inputs, outputs = (
        ", ".join(f"{spec.name} {spec}" for spec in specs) for specs in (signature.inputs, signature.outputs)
    )
    lines = [
        ("read", f"{imported.file}: {imported.format}, run by {imported.engine}{_say_walls(imported)}"),
        ("inputs", inputs),
        ("outputs", f"{outputs} ({signature.objective}{guess})"),
        ("compared", f"on {imported.samples}"),
    ]
    for form, gap in proof.differences.items():
        lines.append((form, f"differs by {gap:.2g} at the most{', served' if form == proof.served else ''}"))
    lines += [(form, f"left out: {reason}") for form, reason in imported.left_out.items()]
    if proof.measured.test_metrics:
        lines.append(("samples", say_metrics(proof.measured.test_metrics)))
    for title, text in lines:
        console.print(f"{title:<13}{text}", **PLAIN)


def _say_walls(imported: Imported) -> str:
    trusted = "; trusted, its code may run" if imported.trusted else ""
    if imported.confined:
        return f"{trusted}; without network, other files or other programs"
    return f"{trusted}; this kernel has no Landlock and seccomp, so only memory and time were limited"
