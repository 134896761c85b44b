"""The page for people: what each model takes and answers, commands to paste, and a form to try it; one HTML file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from bmp import __version__
from bmp.signature import TensorSpec
from bmp.transforms import Field
from serving.answer import inputs_of, outputs_of
from serving.codec.raw import CONTENT_TYPES, JSON
from serving.documents.examples import Example, example_path, list_examples, make_grpc_example
from serving.documents.look import SCRIPT, STYLE
from serving.documents.snippets import FILES, is_short, write_curl, write_file_curl, write_grpcurl, write_python
from serving.models.description import Description
from serving.models.quality import choose_variants
from serving.models.versions import Lineup, VersionState
from serving.service import Service

_MAX_LABELS = 40
_LINKS = {"/openapi.json": "OpenAPI", "/models": "models", "/metrics": "metrics", "/ready": "ready"}
_ASLEEP = (
    "What is not in memory is loaded for whoever asks for it. Until it is there, mostly within a second or two, the "
    "answer is 503: ask again."
)
_KINDS = {
    "number": "a number",
    "category": "a category, as a string",
    "text": "a text",
    "image": "a PNG or JPEG file",
    "audio": "a WAV file",
}


def write_page(service: Service, address: str, grpc_port: int | None = None) -> str:
    """Returns the page. All that makers of models and clients have named is escaped.

    Args:
        service: What it is about.
        address: How clients reach this server, such as `http://localhost:5000`.
        grpc_port: Where its gRPC doors are, if they are open.
    """
    lineups, named = service.lineups(), service.sole_name() is None
    served = [lineup for lineup in lineups if lineup.default is not None]
    names = "".join(_link(f"#{lineup.name}", lineup.name) for lineup in served)
    links = "".join(_link(path, name) for path, name in _LINKS.items())
    absent = _show_absent(lineups, service.failures())
    sections = [_show_model(lineup, address, grpc_port, named=named) for lineup in served]
    nothing = '<p class="lead">No model is served yet; what is published appears here.</p>'
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>bmp: models served here</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body>\n"
        f"<h1>bmp <small>{escape(__version__)}</small></h1>\n<nav>{links}</nav>\n"
        f"{absent}{f'<nav>{names}</nav>' if len(served) > 1 else ''}\n"
        f"{''.join(sections) or ('' if absent else nothing)}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _show_absent(lineups: Sequence[Lineup], failures: Mapping[str, str]) -> str:
    """Tells of what cannot answer now, and why.

    Args:
        lineups: Of all models.
        failures: The code of an error by model.
    """
    lines = [
        f"<p><strong>{escape(name)}</strong> is not as the registry says: {escape(code)}. The log says more.</p>"
        for name, code in failures.items()
    ]
    absent = [lineup for lineup in lineups if lineup.default is None and lineup.name not in failures]
    resting = ", ".join(lineup.name for lineup in absent if lineup.rests)
    loading = ", ".join(lineup.name for lineup in absent if not lineup.rests)
    if resting:
        order = "<code>POST /v2/repository/models/NAME/load</code>"
        lines.append(f"<p>Not loaded: {escape(resting)}. {order} has one loaded.</p>")
    if loading:
        lines.append(f"<p>Still loading: {escape(loading)}. It appears here once it can answer.</p>")
    return f'<div class="lead">{"".join(lines)}</div>\n' if lines else ""


def _show_model(lineup: Lineup, address: str, grpc_port: int | None, *, named: bool) -> str:
    model, versions = lineup.describe(), [state for state in lineup.states() if state.number in lineup.served]
    doors = [_show_example(model, example, address) for example in list_examples(model, named=named)]
    return "\n".join(
        [
            f'<section id="{escape(model.name)}">',
            f"<h2>{escape(model.name)} <small>version {escape(', '.join(map(_name_version, versions)))}</small></h2>",
            "" if all(map(_is_in_memory, versions)) else f'<p class="lead">{_ASLEEP}</p>',
            _write_pairs(_list_facts(model)),
            "<h3>Takes</h3>",
            _write_table(("name", "what", "shape of one"), map(_describe_item, inputs_of(model))),
            "<h3>Answers</h3>",
            _write_table(("name", "what", "shape of one"), map(_describe_item, outputs_of(model))),
            _show_labels(model.manifest.labels),
            "<h3>Try it</h3>",
            *doors,
            *_show_files(model, address),
            "" if grpc_port is None else _show_grpc(model, address, grpc_port),
            "</section>",
        ]
    )


def _name_version(state: VersionState) -> str:
    notes = ", ".join([*state.aliases, *([] if _is_in_memory(state) else ["not in memory"])])
    return f"{state.number} ({notes})" if notes else f"{state.number}"


def _is_in_memory(state: VersionState) -> bool:
    return state.state == "AVAILABLE"


def _list_facts(model: Description) -> Iterator[tuple[str, str]]:
    measured = model.variant.measured
    yield "objective", model.signature.objective.replace("_", " ")
    yield "variant", model.variant.name
    others = {quality: name for quality, name in choose_variants(model.manifest).items() if name != model.variant.name}
    if others:
        yield "others", ", ".join(f"{name} (quality={quality})" for quality, name in others.items())
    if measured.test_score is not None:
        yield f"{model.manifest.score} on the test split", f"{measured.test_score:.4f}"
    yield "size", f"{measured.size_bytes:,} bytes"
    yield "one example takes", f"{measured.latency_batch1_ms:.3g} ms where it was published"
    yield "published", f"{model.manifest.created:%Y-%m-%d %H:%M} UTC"


def _describe_item(item: TensorSpec | Field) -> tuple[str, str, str]:
    sizes = " × ".join("any" if size is None else str(size) for size in item.shape) or "one value"
    what = item.dtype if isinstance(item, TensorSpec) or item.kind == "tensor" else _KINDS[item.kind]
    vocabulary = f", 0 to {item.vocabulary - 1}" if item.vocabulary else ""
    return item.name, what + vocabulary, sizes


def _show_labels(labels: Sequence[str]) -> str:
    if not labels:
        return ""
    shown = "".join(f"<li>{escape(label)}</li>" for label in labels[:_MAX_LABELS])
    more = f'<li class="dim">and {len(labels) - _MAX_LABELS:,} more</li>' if len(labels) > _MAX_LABELS else ""
    return f'<h3>Labels</h3>\n<ul class="labels">{shown}{more}</ul>'


def _show_example(model: Description, example: Example, address: str) -> str:
    path = example_path(model.name, example.door)
    text = escape(example.dump().decode()) if is_short(example) else ""
    opened = " open" if example.door == "predict" else ""
    return (
        f"<details{opened}><summary>{escape(example.title)} <code>POST {escape(example.path)}</code></summary>\n"
        f'<form data-path="{escape(example.path)}" data-type="{JSON}" data-example="{escape(path)}">'
        f'<textarea spellcheck="false" aria-label="body of the request">\n{text}</textarea>'
        "<button>Send</button><output></output></form>\n"
        f"{_write_code('curl', write_curl(example, address, path))}\n"
        f"{_write_code('Python', write_python(example, address, path))}</details>"
    )


def _show_files(model: Description, address: str) -> Iterator[str]:
    """Shows how a file or a text is sent as it is."""
    sole = model.features.sole if model.features is not None else None
    if sole is None or sole.kind not in CONTENT_TYPES:
        return
    accepted = CONTENT_TYPES[sole.kind]
    path = f"/predict?model={model.name}"
    typed = ' data-type="text/plain"' if sole.kind == "text" else ""
    yield (
        f"<details><summary>{escape(_KINDS[sole.kind].capitalize())} as it is <code>POST /predict</code></summary>\n"
        f'<form data-path="{escape(path)}"{typed}>'
        f'<input type="file" accept="{escape(",".join(accepted))}" aria-label="file to send">'
        "<div><button>Send</button></div><output></output></form>\n"
        f"{''.join(_write_code(kind, write_file_curl(path, kind, address)) for kind in accepted if kind in FILES)}"
        "</details>"
    )


def _show_grpc(model: Description, address: str, port: int) -> str:
    example = make_grpc_example(model)
    command = write_grpcurl(example, address, example_path(model.name, example.door), port)
    return (
        f"<details><summary>gRPC <code>{escape(example.path)}</code></summary>\n"
        f"<p>Port {port}; TensorFlow Serving's PredictionService and ModelService are there as well, and health and "
        f"reflection.</p>{_write_code('grpcurl', command)}</details>"
    )


# === HTML ===


def _link(target: str, text: str) -> str:
    return f'<a href="{escape(target)}">{escape(text)}</a>'


def _write_code(title: str, code: str) -> str:
    return f'<p class="dim">{escape(title)}</p><pre>{escape(code)}</pre>'


def _write_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in pairs)
    return f'<div class="wide"><table>{rows}</table></div>'


def _write_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
