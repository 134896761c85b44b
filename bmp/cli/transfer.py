"""`bmp models export`, `import`, `keygen` and `sign`: versions carried elsewhere, and who vouches for them."""

from pathlib import Path

import click

from bmp.cli.content import check_content
from bmp.cli.options import REFERENCE, open_version, registry_option
from bmp.cli.tensorflow import hold_back_stderr


@click.command("export", short_help="Write a version to one file.")
@click.argument("version", metavar=REFERENCE)
@click.argument("file", metavar="FILE.tar", type=click.Path(path_type=Path))
@registry_option
def export_command(version: str, file: Path, registry: str) -> None:
    """Write a version with its tags, description and signatures to one file, for 'bmp models import' elsewhere.

    The same version always makes the same bytes.
    """
    from bmp.registry.archive import export_version

    store, found = open_version(registry, version)
    entry = export_version(store, found, file)
    click.echo(f"{found.name}/{found.number} is in {file}: {entry.size_bytes:,} bytes, SHA-256 {entry.sha256}")


@click.command("import", short_help="Publish what 'export' wrote.")
@click.argument("file", metavar="FILE.tar", type=click.Path(path_type=Path))
@click.option("--name", metavar="MODEL", help="Publish it under this name.  [the one it had]")
@click.option("--trust", is_flag=True, help="Do not look into the files for what could do harm: they are your own.")
@registry_option
def import_command(file: Path, name: str | None, trust: bool, registry: str) -> None:
    """Publish what 'bmp models export' wrote, as the next version of its model.

    Every digest is checked, and the files are looked into: one that could run code or touch other files is refused.
    """
    from bmp.registry import Registry
    from bmp.registry.archive import import_archive

    with hold_back_stderr():  # TensorFlow reads the graph
        version = import_archive(Registry(registry), file, name, check=_accept if trust else check_content)
    click.echo(f"published  {version.path}  (version {version.number})")


def _accept(directory: Path) -> None:
    """Looks at nothing: the file is the user's own."""


@click.command("keygen", short_help="Write a new pair of keys for signing.")
@click.argument("file", type=click.Path(path_type=Path))
def keygen_command(file: Path) -> None:
    """Write a new pair of keys for signing: the private one to FILE, the public one to FILE.pub.

    Only its owner can read the private one; whoever has it can sign. The public one goes to whoever verifies.
    """
    from bmp.registry.keys import write_keys

    name = write_keys(file)
    click.echo(f"key {name}: sign with {file}, verify with {file}.pub")


@click.command("sign")
@click.argument("version", metavar=REFERENCE)
@click.option("--key", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Private key.")
@registry_option
def sign_command(version: str, key: Path, registry: str) -> None:
    """Sign a version: its manifest, and through it every file. What other keys signed stays.

    Servers started with BMP_REQUIRE_SIGNATURE=K.pub serve nothing else.
    """
    from bmp.data.records.keys import find_readers
    from bmp.registry.keys import read_private_key
    from bmp.registry.signing import sign_version

    store, found = open_version(registry, version)
    private = read_private_key(key)
    if warning := find_readers(str(key)):
        click.echo(f"bmp: {warning}", err=True)
    signature = sign_version(found, private, store.signature_file(found.name, found.number))
    click.echo(f"{found.name}/{found.number} is signed by key {signature.key_id}")
