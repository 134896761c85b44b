"""How the page for people looks, and what moves on it; no file from elsewhere, nothing that a model could change."""

import base64
import hashlib

STYLE = """
:root {
  color-scheme: light dark;
  --text: #222; --dim: #5f6670; --line: #e1e4e8; --back: #fff; --soft: #f5f6f8; --link: #2b5f9e; --lead: #f0f4fa;
  --good: #1e7b3c; --bad: #b3261e; --accent: #3b6ea5; --on: #fff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #dfe3e8; --dim: #9aa3ae; --line: #333a44; --back: #15181d; --soft: #1e232a; --link: #8ab8f0;
    --lead: #1a2330; --good: #6fcf8e; --bad: #ff8a80; --accent: #4f86c6; --on: #0d1117;
  }
}
* { box-sizing: border-box }
body {
  font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere;
}
a { color: var(--link) }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.25rem; margin: 0 } h3 { font-size: 1rem; margin: 1.4rem 0 .3rem }
h1 small, h2 small, .dim { color: var(--dim); font-weight: normal; font-size: .9rem }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .4rem 0 1.2rem }
section { border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1.2rem 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem 1.2rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600 } td:first-child { white-space: nowrap }
ul.labels { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem; padding: 0; margin: .3rem 0 }
pre, code, summary, h2, li, td + td { overflow-wrap: anywhere }
ul.labels li { background: var(--soft); border-radius: 4px; padding: 0 .5rem }
.lead { background: var(--lead); border-left: 4px solid var(--accent); padding: .6rem 1rem }
details { border-top: 1px solid var(--line); padding: .5rem 0 } details:last-child { padding-bottom: 0 }
summary { cursor: pointer; font-weight: 600 } summary code { font-weight: normal; color: var(--dim) }
pre, textarea, code { font: 13px/1.45 ui-monospace, monospace }
pre { background: var(--soft); border-radius: 4px; padding: .6rem .8rem; margin: .3rem 0; overflow-x: auto;
  max-height: 24rem; white-space: pre-wrap }
textarea { display: block; width: 100%; min-height: 4rem; color: inherit; background: var(--soft);
  border: 1px solid var(--line); border-radius: 4px; padding: .6rem .8rem; resize: vertical }
p.dim { margin: .8rem 0 .2rem }
button { font: inherit; font-weight: 600; color: var(--on); background: var(--accent); border: 0; border-radius: 4px;
  padding: .35rem 1.2rem; margin: .5rem .8rem .5rem 0; cursor: pointer }
button:disabled { opacity: .5; cursor: default }
output { display: block } .status { font-weight: 600 } .good { color: var(--good) } .bad { color: var(--bad) }
"""

SCRIPT = """
"use strict"
const show = (form, mood, status, text) => {
  const output = form.querySelector("output"), line = document.createElement("p"), body = document.createElement("pre")
  line.className = "status " + mood
  line.textContent = status
  body.textContent = text
  output.replaceChildren(...(text === "" ? [line] : [line, body]))
}
const fill = async form => {
  const area = form.querySelector("textarea")
  if (!area || area.value !== "" || !form.dataset.example) return
  area.value = await (await fetch(form.dataset.example)).text()
}
const read = form => {
  const file = form.querySelector("input[type=file]")
  return file ? file.files[0] : form.querySelector("textarea").value
}
const flat = /\\[\\s+([^\\[\\]{}]*?)\\s+\\]/g
const inLine = (_, inner) => `[${inner.replace(/\\s*\\n\\s*/g, " ")}]`
const format = value => JSON.stringify(value, null, 2).replace(flat, inLine)
const typeOf = (form, body) => form.dataset.type || body.type || "application/octet-stream"
const send = async form => {
  await fill(form)
  const body = read(form)
  if (!body) return show(form, "bad", "There is nothing to send yet.", "")
  const headers = { "Content-Type": typeOf(form, body) }, start = performance.now()
  const reply = await fetch(form.dataset.path, { method: "POST", headers, body })
  const text = await reply.text(), taken = performance.now() - start, model = reply.headers.get("Bmp-Model")
  const status = `${reply.status} in ${taken.toFixed(1)} ms` + (model ? `, from ${model}` : "")
  let shown = text
  try { shown = format(JSON.parse(text)) } catch { }
  show(form, reply.ok ? "good" : "bad", status, shown)
}
for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async event => {
    event.preventDefault()
    const button = form.querySelector("button")
    button.disabled = true
    try { await send(form) } catch (error) { show(form, "bad", "The server cannot be reached.", String(error)) }
    button.disabled = false
  })
  form.closest("details").addEventListener("toggle", () => fill(form).catch(() => {}))
  if (form.closest("details").open) fill(form).catch(() => {})
}
"""


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src {_digest(STYLE)}; script-src {_digest(SCRIPT)}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's own style and script run, and nothing else; it talks to this server alone."""
