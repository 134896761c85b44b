"""The page for people: in a real browser, and pasted into a shell."""

import html
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from browser import Page, find_browser, open_browser
from conftest import Server, find_free_port
from google.protobuf import json_format
from raw_models import build_model, export, make_columns, make_png, publish_models

from bmp.registry import Registry
from bmp.signature import Signature, TensorSpec
from bmp.transforms import Field, Preprocessing, build_steps
from serving.documents.page import write_page
from serving.grpc.messages import message_type
from serving.service import Service

EVIL = "</textarea><script>document.title = 'taken'</script>\"'<img src=x onerror=alert(1)>&amp;$(touch taken)"
GRPC_PORT = find_free_port()
WIDE = 400  # numbers: too many to paste


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Models of a table, a text and an image, one too wide to be pasted, and one whose maker means harm."""
    root = tmp_path_factory.mktemp("docs")
    publish_models(root, ["passengers", "photos"])
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
    assert len(forms) == 4 * 4
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


def test_commands_work_when_pasted(docs_server: Server, tmp_path: Path) -> None:
    text = docs_server.get("/docs").text
    codes = [html.unescape(code) for code in re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)]
    commands = [code for code in codes if code.startswith("curl") and "@picture" not in code and "grpcurl" not in code]
    programs = [code for code in codes if code.startswith("import requests")]
    assert len(commands) == len(programs) == 4 * 4
    for command in commands:
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, timeout=30)
        assert "error" not in json.loads(done.stdout), (command, done)
    assert list(tmp_path.iterdir()) == []
    together = "\n".join(programs)
    done = subprocess.run([sys.executable, "-c", together], capture_output=True, text=True, cwd=tmp_path, timeout=30)
    assert done.returncode == 0 and done.stdout.count("{") >= len(programs), done.stderr


def test_messages_for_grpc_are_answered(docs_server: Server) -> None:
    text = html.unescape(docs_server.get("/docs").text)
    with grpc.insecure_channel(f"127.0.0.1:{GRPC_PORT}") as channel:
        for model in ("passengers", "photos", "wide", "evil"):
            path = f"/docs/examples/{model}/grpc.json"
            body = docs_server.get(path)
            assert (f"{docs_server.url}{path} |" if model == "wide" else shlex.quote(body.text)) in text
            message = json_format.ParseDict(body.json(), message_type("inference.ModelInferRequest")())
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            answer = message_type("inference.ModelInferResponse").FromString(ask(message.SerializeToString(), 20))
            assert (answer.model_name, len(answer.outputs)) == (model, 1)


def test_files_are_sent_as_they_are(docs_server: Server, tmp_path: Path) -> None:
    text = docs_server.get("/docs").text
    (tmp_path / "picture.png").write_bytes(make_png(np.random.default_rng(1)))
    (command,) = [html.unescape(code) for code in re.findall("<pre>(.*?)</pre>", text) if "@picture.png" in code]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, timeout=30)
    assert len(json.loads(done.stdout)["prediction"]) == 1, done


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
