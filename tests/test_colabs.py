"""The notebooks of colabs/: they run from top to bottom, on the public interface, and hold no outputs."""

import ast
import re
import sys
from types import SimpleNamespace

import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from eval.notebook import SHORT
from tests.helpers import notebook_pages, places
from tests.helpers.notebook_pages import NOTEBOOKS

ROOT = places.REPOSITORY
OURS = ("ops", "trackers", "eval", "train")
ADDRESS = "https://github.com/somebody/jaxtrack"

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
NEWEST = {"inside_dimp": pytest.mark.newest}  # the notebook that `.ci/run newest` runs
marked = [pytest.param(path, marks=NEWEST.get(path.stem, ()), id=path.stem) for path in NOTEBOOKS]


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@each
def test_badge_and_install_cell_are_those_of_the_projects_address(path):
    notebook = nbformat.read(path, as_version=4)
    title, install = notebook.cells[0].source, code_of(notebook)[0].source
    assert install == notebook_pages.install_cell(path.stem)
    assert title == notebook_pages.title_cell(path.stem, title)
    for cell in notebook.cells:
        if cell.source not in (title, install):
            assert "github.com" not in cell.source and "%pip" not in cell.source, cell.id
    if not notebook_pages.has_address(notebook_pages.URL):
        assert "OWNER" not in path.read_text() and "badge" not in path.read_text()


@each
def test_with_an_address_it_opens_on_colab_and_installs_from_there(path):
    title = notebook_pages.title_cell(path.stem, "# Title\n\nText.", ADDRESS)
    colab = f"https://colab.research.google.com/github/somebody/jaxtrack/blob/main/{path.relative_to(ROOT)}"
    assert f"(https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n\nText." in title
    assert notebook_pages.title_cell(path.stem, title, "https://github.com/OWNER/jaxtrack") == "# Title\n\nText."
    install = notebook_pages.install_cell(path.stem, ADDRESS)
    assert re.search(rf'%pip install .*"jaxtrack(\[[a-z,]+\])? @ git\+{ADDRESS}"', install)


@pytest.mark.parametrize("place", [".", "..", "jaxtrack"])
@each
def test_the_install_cell_finds_a_clone(path, place, tmp_path, monkeypatch):
    ran = run_install(path, tmp_path, monkeypatch, place)
    _, extras = notebook_pages.NEEDS.get(path.stem, ("", ""))
    [(command, paths)] = ran
    assert f'"{(tmp_path / "here" / place).resolve()}{extras}"' in command and "jax==" in command
    assert paths[0] == str((tmp_path / "here" / place).resolve())


def test_the_install_cell_says_what_is_missing(tmp_path, monkeypatch):
    if notebook_pages.has_address(notebook_pages.URL):
        pytest.skip("the project has an address to install from")
    with pytest.raises(ImportError, match="put the folder of the project, jaxtrack, beside this notebook"):
        run_install(NOTEBOOKS[0], tmp_path, monkeypatch, None)


def run_install(path, tmp_path, monkeypatch, place):
    """Runs the cell where the library is missing, a clone at `place`: [(arguments of pip, sys.path after it)]."""
    here = tmp_path / "here"
    here.mkdir()
    if place is not None:
        clone = (here / place).resolve()
        (clone / "trackers").mkdir(parents=True)
        (clone / "trackers" / "base.py").write_text("")
    monkeypatch.chdir(here)
    code = TransformerManager().transform_cell(notebook_pages.install_cell(path.stem))

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    paths, ran = list(sys.path), []
    monkeypatch.setattr(sys, "path", paths)

    def magic(name, arguments):
        assert name == "pip"
        # IPython fills in {names} of the cell.
        ran.append((arguments.format(**namespace), paths))

    namespace = {"get_ipython": lambda: SimpleNamespace(run_line_magic=magic)}
    exec(code, namespace)
    return ran


@each
def test_stands_on_the_public_interface(path):
    """At most five imports of our packages, all in one cell."""
    cells = [cell.source for cell in code_of(nbformat.read(path, as_version=4))[1:]]
    counts = [len(imports_of_ours(TransformerManager().transform_cell(source))) for source in cells]
    assert 2 <= sum(counts) <= 5 and sum(count > 0 for count in counts) == 1, counts


def imports_of_ours(code):
    nodes = list(ast.walk(ast.parse(code)))
    named = [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    named += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return [name for name in named if name.split(".")[0] in OURS]


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


@pytest.mark.full
@pytest.mark.parametrize("path", marked)
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    """In the short form, in an empty folder; the figures are there in the end."""
    monkeypatch.setenv(SHORT, "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    drawn = re.compile(r"^figure.*plt\.subplots", re.MULTILINE)  # not those that stand below an if
    assert pictures >= sum(bool(drawn.search(cell.source)) for cell in code_of(notebook))
    warned = [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text]
    assert not warned
