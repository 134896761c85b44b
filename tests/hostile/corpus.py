"""Every hostile thing there is."""

from tests.hostile.archives import CASES as ARCHIVES
from tests.hostile.artifacts import CASES as ARTIFACTS
from tests.hostile.artifacts import SAMPLES
from tests.hostile.case import Case
from tests.hostile.h5_files import CASES as H5_FILES
from tests.hostile.journals import CASES as JOURNALS
from tests.hostile.keras_files import CASES as KERAS_FILES
from tests.hostile.litert_files import CASES as LITERT_FILES
from tests.hostile.saved_models import CASES as SAVED_MODELS
from tests.hostile.weight_files import PICKLES, SKLEARN, TORCH

CASES: tuple[Case, ...] = (
    *(*H5_FILES, *KERAS_FILES, *SAVED_MODELS, *LITERT_FILES),
    *(*TORCH, *SKLEARN, *PICKLES, *SAMPLES),
    *(*ARCHIVES, *ARTIFACTS, *JOURNALS),
)
