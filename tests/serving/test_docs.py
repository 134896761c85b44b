"""The page for people: in a real browser, and pasted into a shell."""

import base64
import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from browser import Page, find_browser, open_browser
from conftest import Server, find_free_port
from google.protobuf import json_format
from raw_models import build_model, export, make_columns, make_png, make_text, make_wav, publish_models

from bmp.registry import Registry
from bmp.signature import Signature, TensorSpec
from bmp.transforms import Columns, Field, Preprocessing, build_steps
from serving.documents.page import write_page
from serving.documents.snippets import FILES
from serving.grpc.messages import message_type
from serving.models.model import LoadedModel, load_model
from serving.service import Service

MODELS = ("passengers", "photos", "reviews", "clips", "wide", "evil")
EVIL = "</textarea><script>document.title = 'taken'</script>\"'<img src=x onerror=alert(1)>&amp;$(touch taken)"
GRPC_PORT = find_free_port()
WIDE = 400  # numbers: too many to paste


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Models of a table, an image, a text and a sound, one too wide to be pasted, and one whose maker means harm."""
    root = tmp_path_factory.mktemp("docs")
    publish_models(root, ["passengers", "photos", "reviews", "clips"])
    registry = Registry(root / "registry")
    wide = (Field("x", "tensor", "float32", (WIDE,)),)
    publish(registry, root / "wide", wide, (), ("no", "yes"))
    evil = (Field(EVIL, "number"), Field("fare", "number"))
    steps = [{"kind": "standardise", "fields": [EVIL, "fare"]}, {"kind": "join", "fields": [EVIL, "fare"]}]
    publish(registry, root / "evil", evil, steps, (EVIL, "good"))
    return registry


def publish(registry: Registry, directory: Path, fields: Any, steps: Any, labels: tuple[str, ...]) -> None:
    preprocessing = Preprocessing(fields, build_steps(steps, fields)).fit(lambda: [make_columns(fields, 60)])
    signature = Signature(preprocessing.outputs, (TensorSpec("y", "float32", (2,)),), "multiclass")
    export(directory, directory.name, build_model(signature), preprocessing, signature, labels)
    registry.publish(directory, directory.name)


@pytest.fixture(scope="module")
def docs_server(registry: Registry, serve: Callable[..., Server]) -> Server:
    return serve(registry.root, "--workers", "1", environ={"BMP_GRPC_PORT": str(GRPC_PORT)})


@pytest.fixture(scope="module")
def page(docs_server: Server) -> Iterator[Page]:
    if find_browser() is None:
        pytest.skip("no browser is installed: make tools")
    with open_browser() as page:
        page.open(f"{docs_server.url}/")
        yield page


def send(page: Page, model: str, path: str, change: str = "") -> str:
    """Opens a form, presses its button, and returns what the page says then."""
    return page.run(
        f"""(async () => {{
          const form = document.querySelector(`#{model} form[data-path="{path}"]`)
          const area = form.querySelector("textarea")
          form.closest("details").open = true
          if ({json.dumps(bool(change))}) area.value = {json.dumps(change)}
          form.querySelector("button").click()
          while (form.querySelector("button").disabled) await new Promise(done => setTimeout(done, 10))
          return form.querySelector("output").innerText
        }})()"""
    )


def test_first_address_leads_to_the_page_and_nothing_comes_from_elsewhere(page: Page, docs_server: Server) -> None:
    assert page.run("location.pathname") == "/docs" and "bmp" in page.run("document.title")
    assert [each for each in page.addresses() if not each.startswith((docs_server.url, "data:"))] == []
    assert page.complaints() == []


def test_every_form_gets_an_answer(page: Page) -> None:
    forms = page.run(
        """[...document.querySelectorAll("form:has(textarea)")]
           .map(form => [form.closest("section").id, form.dataset.path])"""
    )
    assert len(forms) == 4 * len(MODELS)
    for model, path in forms:
        said = send(page, model, path)
        assert re.match(rf"200 in \d+\.\d ms, from {model}/1\n", said), (model, path, said)
    assert page.complaints() == []


def test_form_shows_what_is_wrong(page: Page) -> None:
    said = send(page, "wide", "/v1/models/wide:predict", '{"instances": [[1, 2]]}')
    assert said.startswith("400 in ") and "(B, 400)" in said
    assert page.run("document.querySelector('#wide .status.bad') !== null")


def test_other_peoples_words_stay_words(page: Page) -> None:
    assert "taken" not in page.run("document.title")
    assert page.run("document.querySelectorAll('body img').length") == 0
    assert page.run("document.querySelectorAll('script').length") == 1
    assert EVIL in page.run("document.querySelector('#evil .labels').innerText")
    assert EVIL in page.run("document.querySelector('#evil table + h3, #evil').innerText")


@pytest.mark.parametrize("width", [390, 1200])
def test_page_is_no_wider_than_the_screen(page: Page, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    page.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.run("document.documentElement.scrollWidth") <= width


# === Commands ===


@pytest.fixture(scope="module")
def models(registry: Registry) -> dict[str, LoadedModel]:
    """What the server serves, in this process."""
    return {name: load_model(registry.resolve(name)) for name in MODELS}


def find_codes(server: Server, model: str, program: str) -> list[tuple[str, str]]:
    """Returns the codes that the page shows for a model and a program, each with the door that it stands under."""
    _, _, rest = server.get("/docs").text.partition(f'<section id="{model}">')
    found, wanted = [], re.compile(f'<p class="dim">{program}</p><pre>(.*?)</pre>', re.DOTALL)
    for door in rest.partition("</section>")[0].split("<summary>")[1:]:
        found += [(door.partition(" <code>")[0], html.unescape(code)) for code in wanted.findall(door)]
    return found


def paste(command: str, directory: Path) -> Any:
    """Runs a command in a shell, and returns the JSON that it prints."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=directory, timeout=30)
    assert done.returncode == 0, (command, done.stderr)
    return json.loads(done.stdout)


def find_out(model: LoadedModel, values: Any) -> list[float]:
    """Returns what a model itself says to one example, as JSON has it."""
    if model.features is None:
        (outputs,) = model.predict({"x": np.array([values], np.float32)}).values()
    else:
        (outputs,) = model.predict_raw(read_columns(model.features.fields, values)).values()
    return outputs[0].tolist()


def read_columns(fields: Sequence[Field], values: Any) -> Columns:
    if len(fields) == 1:
        values = {fields[0].name: values}
    columns: Columns = {}
    for field in fields:
        value = values[field.name]
        column = np.empty(1, object)
        column[0] = base64.b64decode(value["b64"]) if isinstance(value, dict) else value
        columns[field.name] = column.astype(np.float32) if field.kind == "number" else column
    return columns


def read_answer(answer: Any) -> list[float]:
    """Returns the numbers of an answer, whichever protocol it has come by."""
    if "outputs" in answer:
        return answer["outputs"][0]["data"]
    (row,) = answer["prediction"] if "prediction" in answer else answer["predictions"]
    return row


def list_labels(model: LoadedModel, outputs: list[float]) -> dict[str, float]:
    """Returns how likely each label is."""
    if model.signature.objective == "binary":
        outputs = [1 - outputs[0], outputs[0]]
    return dict(zip(model.manifest.labels, outputs, strict=True))


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: make tools")


@needs_curl
@pytest.mark.parametrize("name", MODELS)
def test_curl_gets_what_the_model_says(
    name: str, docs_server: Server, models: dict[str, LoadedModel], tmp_path: Path
) -> None:
    model = models[name]
    example = docs_server.get(f"/docs/examples/{name}/predict.json").json()["instances"][0]
    expected = find_out(model, example)
    labels = list_labels(model, expected)
    doors = {title: paste(command, tmp_path) for title, command in find_codes(docs_server, name, "curl")}
    plain = ("bmp", "TensorFlow Serving", "Open Inference Protocol")
    assert sorted(doors) == sorted((*plain, "TensorFlow Serving, classify"))
    for title in plain:
        assert read_answer(doors[title]) == pytest.approx(expected, abs=1e-6), title
    (classes,) = doors["TensorFlow Serving, classify"]["results"]
    assert dict(classes) == pytest.approx(labels, abs=1e-6)
    (ranked,) = doors["bmp"]["top_k"]
    likeliest = sorted(labels, key=labels.__getitem__, reverse=True)[: len(ranked)]
    assert [each["label"] for each in ranked] == likeliest and len(ranked) == min(3, len(labels))
    assert [each["probability"] for each in ranked] == pytest.approx([labels[each] for each in likeliest], abs=1e-6)
    assert list(tmp_path.iterdir()) == []


@needs_curl
@pytest.mark.parametrize(
    ("name", "media_type", "make"),
    [
        ("photos", "image/png", make_png),
        ("photos", "image/jpeg", lambda random: make_png(random, "JPEG")),
        ("reviews", "text/plain", make_text),
        ("clips", "audio/wav", make_wav),
    ],
)
def test_curl_sends_a_file_as_it_is(
    name: str,
    media_type: str,
    make: Callable[[np.random.Generator], Any],
    docs_server: Server,
    models: dict[str, LoadedModel],
    tmp_path: Path,
) -> None:
    content = make(np.random.default_rng(1))
    (tmp_path / FILES[media_type]).write_bytes(content.encode() if isinstance(content, str) else content)
    (command,) = [code for _, code in find_codes(docs_server, name, media_type)]
    expected = find_out(models[name], content)
    assert read_answer(paste(command, tmp_path)) == pytest.approx(expected, abs=1e-6)


def test_programs_work_when_pasted(docs_server: Server, tmp_path: Path) -> None:
    programs = [code for name in MODELS for _, code in find_codes(docs_server, name, "Python")]
    assert len(programs) == 4 * len(MODELS)
    together = "\n".join(programs)
    done = subprocess.run([sys.executable, "-c", together], capture_output=True, text=True, cwd=tmp_path, timeout=30)
    assert done.returncode == 0 and done.stdout.count("{") >= len(programs), done.stderr


def test_messages_for_grpc_are_answered(docs_server: Server) -> None:
    text = html.unescape(docs_server.get("/docs").text)
    with grpc.insecure_channel(f"127.0.0.1:{GRPC_PORT}") as channel:
        for model in MODELS:
            path = f"/docs/examples/{model}/grpc.json"
            body = docs_server.get(path)
            assert (f"{docs_server.url}{path} |" if model == "wide" else shlex.quote(body.text)) in text
            message = json_format.ParseDict(body.json(), message_type("inference.ModelInferRequest")())
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            answer = message_type("inference.ModelInferResponse").FromString(ask(message.SerializeToString(), 20))
            assert (answer.model_name, len(answer.outputs)) == (model, 1)


def test_policy_allows_the_page_alone(docs_server: Server) -> None:
    reply = docs_server.get("/docs")
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    assert not re.search(r"<[^>]+ (style|on\w+)=", reply.text)
    assert docs_server.get("/docs/examples/wide/nothing.json").status_code == 404
    assert docs_server.get("/docs/examples/nobody/predict.json").status_code == 404


def test_host_of_a_client_is_escaped(registry: Registry, tmp_path: Path) -> None:
    service = Service(registry, ["wide"])
    service.load()
    text = write_page(service, "http://a'\"><script>x$(touch taken)")
    assert text.count("<script>") == 1
    for code in re.findall("<pre>(curl.*?)</pre>", text, re.DOTALL):
        subprocess.run(["bash", "-c", html.unescape(code)], capture_output=True, cwd=tmp_path, timeout=30)
    assert list(tmp_path.iterdir()) == []
