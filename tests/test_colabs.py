"""The notebooks of colabs/: they run from top to bottom, open with one click, and hold no outputs."""

import re
import tomllib

import nbclient
import nbformat
import pytest

from tests.helpers import places

ROOT = places.REPOSITORY
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))
URL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
OWNER_AND_NAME = URL.removeprefix("https://github.com/")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@each
def test_opens_on_colab_and_installs_from_the_projects_address(path):
    notebook = nbformat.read(path, as_version=4)
    colab = f"https://colab.research.google.com/github/{OWNER_AND_NAME}/blob/main/{path.relative_to(ROOT)}"
    assert f"(https://colab.research.google.com/assets/colab-badge.svg)]({colab})" in notebook.cells[0].source
    install, *others = code_of(notebook)
    assert re.search(rf'%pip install .*"jaxtrack(\[[a-z,]+\])? @ git\+{re.escape(URL)}"', install.source)
    for cell in (notebook.cells[0], *notebook.cells[1:]):
        if cell is not install:
            rest = cell.source.replace(colab, "")
            assert "github.com" not in rest and "%pip" not in rest, cell.id
    assert any("NOTEBOOK_SMOKE" in cell.source for cell in others)


@each
def test_is_valid_and_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in code_of(notebook):
        assert cell.outputs == [] and cell.execution_count is None, cell.id
        assert cell.metadata == {}, cell.id


def test_readers_find_the_next_notebook():
    names = {path.name for path in NOTEBOOKS}
    assert len(names) >= 6
    for path in NOTEBOOKS:
        linked = re.findall(r"\]\(([\w]+\.ipynb)\)", path.read_text())
        assert set(linked) <= names, path


@each
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    """In the short form, in an empty folder; the figures are there in the end."""
    monkeypatch.setenv("NOTEBOOK_SMOKE", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    drawn = re.compile(r"^figure.*plt\.subplots", re.MULTILINE)  # not those that stand below an if
    assert pictures >= sum(bool(drawn.search(cell.source)) for cell in code_of(notebook))
    warned = [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text]
    assert not warned
