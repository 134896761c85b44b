"""What is in a source: counted, shown as a table, drawn as a picture."""

from bmp.data.describe.facts import Facts, FeatureFacts, gather_facts
from bmp.data.describe.picture import draw
from bmp.data.describe.report import show

__all__ = ["Facts", "FeatureFacts", "draw", "gather_facts", "show"]
