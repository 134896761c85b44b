"""`bmp models history`, `at` and `lineage`: what happened to a model, from its journal."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from bmp.cli.options import json_option, print_json, print_line, print_rows, read_alias, registry_option
from bmp.errors import ConfigError, NotFoundError, suggest

if TYPE_CHECKING:
    from bmp.registry import Registry
    from bmp.registry.events import Event
    from bmp.registry.lineage import Node


@click.command("history", short_help="Show what happened to a model.")
@click.argument("model")
@registry_option
@json_option
def history_command(model: str, registry: str, as_json: bool) -> None:
    """Show what happened to MODEL, oldest first, from its hash-chained journal."""
    from bmp.registry import Registry

    events = Registry(registry).history(model)
    if as_json:
        print_json([event.model_dump(mode="json") for event in events])
        return
    print_rows(("time (UTC)", "event"), [(f"{event.time:%Y-%m-%d %H:%M:%S}", say_event(event)) for event in events])


def say_event(event: "Event") -> str:
    """Returns what happened, in a line."""
    from bmp.registry.events import Described, Moved, Published, Retired

    match event:
        case Published():
            how = "published" if event.event == "publish" else "taken in by a repair"
            facts, origin = event.facts, f", from {event.origin}" if event.origin else ""
            what = "" if facts is None else f", {facts.variant}, {say_score(facts.score, facts.metric)}"
            return f"version {event.version} {how}{what.removesuffix(', ')}{origin}"
        case Moved(version=None):
            return f"alias {event.alias} removed from {event.previous}"
        case Moved():
            how = "rolled back" if event.rollback else "moved" if event.previous is not None else "set"
            before = f" from {event.previous}" if event.previous is not None else ""
            return f"alias {event.alias} {how}{before} to {event.version}"
        case Retired():
            how = "found to be gone" if event.lost else f"removed, {event.freed_bytes:,} bytes freed"
            return f"version {event.version} {how}"
        case Described():
            return f"version {event.version} described: {' '.join(event.text.split())[:200] or 'nothing'}"
        case _:
            to = "removed" if event.value is None else f"set to {event.value}"
            return f"version {event.version} tag {event.key} {to}"


def say_score(score: float | None, metric: str) -> str:
    """Returns a score with what it is of, or nothing."""
    return "" if score is None else f"{metric} {score:.4f}"


@click.command("at", short_help="Say what an alias named at a time.")
@click.argument("model", metavar="MODEL[@ALIAS]")
@click.argument("time")
@registry_option
@json_option
def at_command(model: str, time: str, registry: str, as_json: bool) -> None:
    """Say which version an alias of MODEL named at TIME: production, unless another is named.

    TIME is a date or a date with a time, such as 2026-11-25 or "2026-11-25 22:30", of this machine's zone; or with a
    zone of its own, as 2026-11-25T22:30Z.
    """
    from bmp.registry import Registry

    name, alias = read_alias(model)
    moment = _read_time(time)
    store = Registry(registry)
    _check_alias(store, name, alias)
    number = store.at(name, moment, alias)
    if as_json:
        print_json({"model": name, "alias": alias, "time": moment.isoformat(), "version": number})
        return
    said = "named no version" if number is None else f"was version {number}"
    click.echo(f"{name}@{alias} {said} at {moment:%Y-%m-%d %H:%M:%S %Z}")


def _check_alias(store: "Registry", name: str, alias: str) -> None:
    """Raises where a model never had an alias: one that is misspelt must not look like one that was not set yet."""
    from bmp.registry.events import Moved

    known = sorted({event.alias for event in store.history(name) if isinstance(event, Moved)})
    if alias not in known:
        raise NotFoundError(
            f"Model '{name}' never had an alias '{alias}'. Aliases so far: {', '.join(known) or 'none'}."
            f"{suggest(alias, known)}",
            expected=", ".join(known),
            received=alias,
        )


def _read_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"'{text[:80]}' is no time; expected one such as 2026-11-25, '2026-11-25 22:30' or 2026-11-25T22:30Z.",
            expected="a date, or a date with a time",
            received=text[:80],
        ) from error
    if moment > datetime.now(UTC):
        raise ConfigError(f"{moment:%Y-%m-%d %H:%M:%S %Z} is yet to come; expected a time that has passed.")
    return moment


@click.command("lineage", short_help="Show which version was made from which.")
@click.argument("model")
@registry_option
@json_option
def lineage_command(model: str, registry: str, as_json: bool) -> None:
    """Show which version of MODEL was made from which, and from what data, recipe and code."""
    from bmp.registry import Registry

    roots = Registry(registry).lineage(model)
    if as_json:
        print_json([_to_tree(node) for node in roots])
        return
    click.echo(model)
    for line in _draw_tree(roots):
        print_line(line)


def _draw_tree(nodes: "Sequence[Node]", indent: str = "") -> list[str]:
    lines = []
    for place, node in enumerate(nodes, start=1):
        is_last = place == len(nodes)
        lines.append(f"{indent}{'└── ' if is_last else '├── '}{_say_node(node)}")
        lines += _draw_tree(node.children, indent + ("    " if is_last else "│   "))
    return lines


def _say_node(node: "Node") -> str:
    facts = node.facts
    words = [str(node.number)]
    if facts is not None:
        digests = {"data": facts.data_sha256, "recipe": facts.recipe_sha256}
        words += [facts.variant, say_score(facts.score, facts.metric)]
        words += [f"{name} {digest[:8]}" for name, digest in digests.items() if digest]
        words += [f"bmp {facts.code_version}"] if facts.code_version else []
    return "  ".join(filter(None, [*words, "" if node.is_there else "(removed)"]))


def _to_tree(node: "Node") -> dict[str, Any]:
    facts = None if node.facts is None else node.facts.model_dump(mode="json")
    children = [_to_tree(child) for child in node.children]
    return {"version": node.number, "removed": not node.is_there, "facts": facts, "children": children}
