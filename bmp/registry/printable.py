"""Texts that others wrote, made safe to print: a manifest or a journal from elsewhere may hold anything."""


def make_printable(text: str) -> str:
    """Returns a text in which nothing steers a terminal or turns the direction of reading; lines stay lines."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)
