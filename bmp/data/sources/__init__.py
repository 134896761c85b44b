"""SOURCES: where examples come from."""

from bmp.catalog import Catalog
from bmp.data.records import load_records
from bmp.data.sources.arrays import load_arrays
from bmp.data.sources.csv import load_csv
from bmp.data.sources.folders import load_audio_folder, load_image_folder
from bmp.data.sources.keras import load_keras
from bmp.data.sources.parquet import load_parquet
from bmp.data.sources.python import load_python
from bmp.data.sources.sklearn import load_sklearn
from bmp.data.sources.synthetic import load_synthetic
from bmp.data.sources.text import load_text
from bmp.data.sources.text_table import load_text_table

__all__ = ["SOURCES"]

SOURCES = Catalog(
    "source",
    {
        "arrays": load_arrays,
        "audio_folder": load_audio_folder,
        "csv": load_csv,
        "image_folder": load_image_folder,
        "keras": load_keras,
        "parquet": load_parquet,
        "python": load_python,
        "records": load_records,
        "sklearn": load_sklearn,
        "synthetic": load_synthetic,
        "text": load_text,
        "text_table": load_text_table,
    },
)
