"""scikit-learn models in skops files: outputs are scikit-learn's."""

import json
import re
import zipfile

import numpy as np
import pytest
import skops.io
from sklearn import datasets
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from bmp.artifact.formats import FORMATS
from bmp.errors import ArtifactError, UnsafeError
from bmp.imports.original import Options
from bmp.imports.sources.sklearn import check_sklearn_source, read_sklearn_source

FEATURES, KINDS = datasets.load_iris(return_X_y=True)
NAMES = np.array(["setosa", "other", "other"])[KINDS]


def dump(model, tmp_path):
    path = tmp_path / "model.skops"
    skops.io.dump(model, path)
    return path


@pytest.mark.parametrize(
    ("model", "targets", "labels", "output"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), NAMES, ("other", "setosa"), "probability"),
        (make_pipeline(MinMaxScaler(), MaxAbsScaler(), SVC()), KINDS, ("0", "1", "2"), "probabilities"),
        (RandomForestClassifier(3, random_state=0), KINDS, ("0", "1", "2"), "probabilities"),
        (RidgeClassifier(), NAMES, ("other", "setosa"), "probability"),
        (GradientBoostingRegressor(n_estimators=4), KINDS * 1.5, (), "values"),
        (Ridge(), np.stack([KINDS, -KINDS], axis=1), (), "values"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_outputs_are_scikit_learns(model, targets, labels, output, tmp_path):
    path = dump(model.fit(FEATURES, targets), tmp_path)
    check_sklearn_source(path)
    original = read_sklearn_source(path, Options())
    assert (original.labels, original.signature.outputs[0].name) == (labels, output)
    given = {"features": FEATURES.astype(np.float32)}
    wanted = original.run(given)[output]
    if not labels:
        assert np.allclose(wanted, model.predict(given["features"]).reshape(wanted.shape), atol=1e-6)
    original.writers["h5"](original.signature, tmp_path / "model.h5")
    found = FORMATS["h5"].load(tmp_path / "model.h5", original.signature).run(given)[output]
    assert np.abs(found - wanted).max() <= 1e-5


def squeeze(x):
    return x


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (make_pipeline(PolynomialFeatures(2), Ridge()), "has the step PolynomialFeatures, which has no form as layers"),
        (GaussianNB(), "holds a GaussianNB, which has no form as layers"),
        (SVC(kernel="poly"), "has the kernel 'poly'; only 'rbf'"),
        (make_pipeline(MinMaxScaler(clip=True), Ridge()), "has the step MinMaxScaler"),
    ],
    ids=["step", "model", "kernel", "clip"],
)
def test_what_has_no_layers_is_refused(model, said, tmp_path):
    with pytest.raises(ArtifactError, match=re.escape(said)):
        read_sklearn_source(dump(model.fit(FEATURES, KINDS), tmp_path), Options())


def test_so_is_what_was_never_fitted(tmp_path):
    with pytest.raises(ArtifactError, match="has not been fitted"):
        read_sklearn_source(dump(Ridge(), tmp_path), Options())


def test_a_function_of_somebodys_own_is_never_called(tmp_path):
    path = dump(make_pipeline(FunctionTransformer(squeeze), Ridge()).fit(FEATURES, KINDS), tmp_path)
    with pytest.raises(UnsafeError, match=r"names types that are not on the list .*squeeze.*--trust"):
        check_sklearn_source(path)
    with pytest.raises(BaseException, match="Untrusted types"):  # without the check, skops says no as well
        read_sklearn_source(path, Options())


def rewrite(path, change):
    """Writes the archive again with another schema."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    change(schema)
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(("module", "kind"), [("builtins", "eval"), ("os", "system"), ("subprocess", "Popen")])
def test_nor_is_one_that_a_file_names(module, kind, tmp_path):
    path = dump(Ridge().fit(FEATURES, KINDS), tmp_path)
    rewrite(path, lambda schema: schema.update(__module__=module, __class__=kind))
    with pytest.raises(UnsafeError, match=f"{module}.{kind}"):
        check_sklearn_source(path)


def test_a_tree_that_points_outside_of_itself_is_refused(tmp_path):
    tree = DecisionTreeClassifier(max_depth=2).fit(FEATURES, KINDS)
    state = tree.tree_.__getstate__()
    nodes = state["nodes"].copy()
    nodes["left_child"][0] = 10_000
    tree.tree_.__setstate__(state | {"nodes": nodes})
    with pytest.raises(ArtifactError, match="points outside of itself"):
        read_sklearn_source(dump(tree, tmp_path), Options())


def test_an_archive_that_unpacks_to_much_more_is_refused(tmp_path):
    path = tmp_path / "model.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("1.npy", bytes(100 << 20))
    with pytest.raises(UnsafeError, match="no small file can fill the memory"):
        check_sklearn_source(path)


@pytest.mark.parametrize("schema", ["{}", "[]", "", '{"__loader__": "NoNode"}', "[" * 5000])
def test_a_schema_that_is_none_is_refused(schema, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.skops", "w") as archive:
        archive.writestr("schema.json", schema)
    with pytest.raises(ArtifactError, match="is no skops file that can be read"):
        check_sklearn_source(tmp_path / "model.skops")
