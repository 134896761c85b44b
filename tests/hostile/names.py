"""Hostile strings for every argument that takes a name: they climb, hide, look like others, or are no text at all."""

import random
from urllib.parse import quote

_CLIMBING = (
    *(
        "..",
        ".",
        "/",
        "//",
        "../x",
        "../../outside/secret.txt",
        "a/../../x",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "/etc/passwd",
    ),
    *(
        "....//....//x",
        "..;/x",
        "../" * 40,
        "/" * 300,
        "~",
        "~root",
        "..\\x",
        "C:\\x",
        "C:x",
        "\\\\host\\share",
        "//host/x",
    ),
    *("/proc/self/fd/0", "/proc/self/environ", "/proc/self/root/etc", "/dev/null", "/dev/stdin", "/dev/fd/1"),
    *("file:///etc/passwd", "http://127.0.0.1:1/x", "gs://bucket/x", "ram://x", "data:,x"),
)
_ENCODED = (
    *(
        "%2e%2e%2f",
        "..%2f",
        "%252e%252e%252f",
        "%00",
        "%c0%ae%c0%ae/",
        "&#46;&#46;/",
        "\\u002e\\u002e/",
        "=?utf-8?q?..?=",
    ),
    *("\uff0e\uff0e\uff0f", "\u2024\u2024\u2215", "..\u29f8x", "\u3002\u3002/", "..\u2044x"),
)
_LOOK_ALIKE = (
    *(
        "m\u043edel",
        "mode\u0131",
        "\uff4dodel",
        "mode\u2113",
        "mod\u00e9l",
        "mode\u0301l",
        "\ufb01le",
        "MODEL",
        "Model",
    ),
    *(
        "\u0130",
        "\u00df",
        "\u1e9e",
        "\u2167",
        "\u0663",
        "\u00b2",
        "\uff11",
        "\u4e00",
        "1\u20e3",
        "model\u200b",
        "mo\u00addel",
    ),
    *("\u202eledom", "\u2066model", "\ufeffmodel", "\u00a0model", "\u2028", "\U0001f4a9", "\U000e0041"),
)
_NO_TEXT = (
    *(
        "",
        " ",
        "  model",
        "model ",
        "model\t",
        "\0",
        "model\0",
        "model\0.h5",
        "mo\ndel",
        "model\n",
        "\r\n",
        "\x7f",
        "\x85",
    ),
    *("\x1b[2J", "\x1b]0;x\x07", "\udcff", "\ud800", "mo\udc80del", "\ufffe"),
)
_COMMANDS = (
    *(";touch x", "$(touch x)", "`touch x`", "|touch x", "a&&b", "a;b", "#", "a#b", "a?b", "a*", "[a]", "{a,b}", "!x"),
    *("'", '"', "\\", "a b", "-", "--", "-rf", "--help", "--registry=/", "--json", "{0.__class__}", "%s%n", "{{7*7}}"),
    *("<script>", "' or 1=1", "__class__", "__import__('os')", "${PATH}", "$HOME", "None", "null", "nan", "true"),
)
_REFERENCES = (
    *("@", "model@", "@production", "model@production@x", "model@../x", "model@1", "model/", "model/0", "model/01"),
    *(
        "model/-1",
        "model/+1",
        "model/1.0",
        "model/1e0",
        "model/0x1",
        "model/\u0663",
        "model/\u00b2",
        "model/1/..",
        "model/1/2",
    ),
    *("model/../model/1", "model/99", "model/" + "9" * 30, "model/1@production", "model#1", "model:1", "model/latest"),
    *(
        "0",
        "1",
        "01",
        "-1",
        "1_0",
        "9" * 400,
        "1e9",
        "\u0661",
        "production",
        "nothing",
        "linked",
        "linked/1",
        "linked@x",
        "model/3",
    ),
)
_OWN = (
    *(
        ".lock",
        ".staging-0",
        ".signatures",
        ".signatures/1.json",
        "journal.jsonl",
        "aliases.json",
        "model/journal.jsonl",
    ),
    *("CON", "nul", "com1.txt", "a.", "a..", "-a", "_a", ".a", "a" * 64, "a" * 65, "a" * 255, "a" * 256, "a" * 4096),
    *(
        "model.tflite",
        "bmp/manifest.json",
        "bmp/../../x",
        "variants",
        "a=b",
        "=",
        "=b",
        "a=",
        "a==",
        "a=\0",
        "a=\x1b[2J",
    ),
)
SEEDS = (*_CLIMBING, *_ENCODED, *_LOOK_ALIKE, *_NO_TEXT, *_COMMANDS, *_REFERENCES, *_OWN)
"""Those that people thought of; the others are made of these."""


def make_names(rng: random.Random, count: int) -> list[str]:
    """Returns so many different strings, the seeds first."""
    found = dict.fromkeys(SEEDS)
    while len(found) < count:
        found[_change(rng, rng.choice(SEEDS))[:8192]] = None
    return list(found)[:count]


def _change(rng: random.Random, text: str) -> str:
    """Returns a string with one to three changes."""
    for _ in range(rng.randint(1, 3)):
        place = rng.randint(0, len(text))
        text = rng.choice(
            (
                f"model@{text}",
                f"model/{text}",
                f"{text}/../{rng.choice(SEEDS)}",
                f"../{text}",
                f"{text}{rng.choice(SEEDS)}",
                f"{rng.choice(SEEDS)}{text}",
                text[:place] + rng.choice("\0\n/\\.%@#;\u202e\u200b\udcff =-") + text[place:],
                text[:place] + text[place + 1 :],
                text.swapcase(),
                text.replace(".", "\uff0e").replace("/", "\uff0f"),
                quote(text, safe="", errors="replace"),
                "".join(chr(min(ord(letter) ^ 1 << rng.randrange(8), 0x10FFFF)) for letter in text),
                f"{text}\0.tar",
                text[::-1],
            )
        )
    return text
