"""The pages: the front page's code runs, its figures are those of RESULTS.md, and no link leads nowhere."""

import ast
import importlib.util
import re
import runpy
import tomllib

import jax
import numpy as np
import pytest

import trackers
from eval.programs import PROGRAMS
from eval.scoring import metrics
from eval.sources import synthetic
from tests.helpers import places
from trackers import measured

ROOT = places.REPOSITORY
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "shared" for part in path.relative_to(ROOT).parts)
)
CARDS = sorted((ROOT / "trackers" / "weights" / "released").glob("*.md"))
README, RESULTS = (ROOT / name for name in ("README.md", "RESULTS.md"))
URL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def test_the_pages_are_short():
    assert len(README.read_text().splitlines()) <= 110
    assert len(RESULTS.read_text().splitlines()) <= 160


@pytest.mark.parametrize(("distractors", "exact"), [(0, 5), (1, 3)])
def test_the_code_of_the_front_page_follows_a_target(capsys, distractors, exact):
    """In the last two frames of the second clip a look-alike touches the target: there the box is less exact."""
    config = synthetic.ClipConfig(num_frames=6, occluders=0, distractors=distractors)
    examples = list(synthetic.clip(config, 2))
    images = [example.image for example in examples]
    truth = np.stack([example.box for example in examples])
    x, y, w, h = truth[0]
    for block in BLOCKS:
        namespace = {"images": images, "x": x, "y": y, "w": w, "h": h}
        exec(compile(block, "README.md", "exec"), namespace)
        for name in names_of(block, "trackers"):
            assert name in trackers.__all__
    printed = capsys.readouterr().out.splitlines()
    found = np.array([[float(word) for word in re.findall(r"-?\d+\.?\d*", line)] for line in printed])
    assert found.shape == (5, 5)  # x, y, w, h, confidence
    overlaps = metrics.overlaps(found[:, :4], truth[1:])
    assert (overlaps[:exact] > 0.9).all() and (overlaps > 0.65).all() and (found[:, 4] <= 1).all()


def names_of(code, module):
    nodes = ast.walk(ast.parse(code))
    return [node.attr for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == module]


def test_the_online_learner_of_the_front_page_minimizes_its_residuals():
    namespace = {"jax": jax}
    exec(compile(BLOCKS[-1], "README.md", "exec"), namespace)
    # For the identity and a weight of 0.1 the minimum is 1 / (1 + 0.1 ** 2).
    np.testing.assert_allclose(namespace["filter"], np.full(3, 1 / 1.01), atol=1e-5)


def test_what_the_front_page_names_of_the_interface_exists():
    named = set(re.findall(r"`trackers\.(\w+)", README.read_text()))
    assert named and named <= set(trackers.__all__) and all(hasattr(trackers, name) for name in trackers.__all__)


def tables(text):
    """Each table of a page as a list of rows, dicts by the heading."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        heading, _, *rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        yield [dict(zip(heading, row, strict=True)) for row in rows]


def figures(text, column):
    """Tracker's name -> what the tables of a page have in `column`, "-" left out; each tracker at most once."""
    found = {}
    for row in (row for table in tables(text) for row in table if column in row and "tracker" in row):
        name = row["tracker"].split(" (")[0].strip("`")
        if row[column] != "-":
            assert name not in found, f"{column} of {name} stands twice"
            found[name] = row[column]
    return found


@pytest.mark.parametrize("column", ["AUC", "frames/s"])
def test_the_figures_of_the_front_page_are_those_of_results(column):
    shown, measured = figures(README.read_text(), column), figures(RESULTS.read_text(), column)
    assert len(shown) >= 5
    for name, value in shown.items():
        assert value == measured[name], name
    named = re.findall(r"^\| .*? \| `([\w.]+)` \|", README.read_text(), re.MULTILINE)
    assert set(named) <= set(trackers.names())
    assert len(named) == len(set(named)) == 8  # a row per paper
    for name in set(named) - set(shown):
        assert name not in measured, f"{column} of {name} is measured, but not shown"


@pytest.mark.parametrize(
    ("column", "found"), [("AUC", measured.AUC), ("frames/s", measured.FRAMES_PER_SECOND)], ids=["AUC", "speed"]
)
def test_the_figures_of_the_printed_table_are_those_of_results(column, found):
    shown = {name: float(value) for name, value in figures(RESULTS.read_text(), column).items()}
    assert found == {name: value for name, value in shown.items() if name in trackers.names()}


@pytest.mark.parametrize("page", [ROOT / "trackers" / "README.md", *CARDS], ids=lambda page: page.stem)
def test_the_figures_of_other_pages_are_those_of_results(page):
    measured = figures(RESULTS.read_text(), "AUC")
    found = 0
    for line in page.read_text().splitlines():
        named = [measured[name] for name in re.findall(r"`([\w.]+)`", line) if name in measured]
        for value in re.findall(r"AUC 0(\.\d{3})", line):
            assert value in named, f"{page.name}: {line}"
            found += 1
        for guest, value in re.findall(r"(CSRT|MIL|KCF)(?: has|:)? 0(\.\d{3})", line):
            assert value == measured[f"OpenCV's {guest}"], f"{page.name}: {line}"
    assert found


def test_the_figures_in_the_text_are_those_of_results():
    text, results = README.read_text(), RESULTS.read_text()
    (csrt,) = re.findall(r"CSRT has (\.\d+)", text)
    assert csrt == figures(results, "AUC")["OpenCV's CSRT"]
    pattern = r"^`(\w+)`, the default.*: AUC (\.\d+), ([\d.]+) frames/s"
    ((tracker, auc, speed),) = re.findall(pattern, text, re.MULTILINE)
    assert (auc, speed) == (figures(results, "AUC")[tracker], figures(results, "frames/s")[tracker])


def headings(text):
    """The anchors that GitHub makes of a page's headings."""
    for heading in re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    ):
        yield re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_leads_nowhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if re.match(r"https?://", target):
            assert "OWNER" not in target
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in headings(linked.read_text()), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_settings_exist(page):
    """Each `python -m MODULE`, each file of ours that a command names, each FIELD of a --set for a tracker."""
    text = page.read_text()
    for module in re.findall(r"python -m ([\w.]+)", text):
        if module.split(".")[0] in ("eval", "train", "tests", "trackers", "ops") and "NAME" not in module:
            assert importlib.util.find_spec(module) is not None, module
    for words in re.findall(r"(?:^|`)jaxtrack ([a-z]+(?: [a-z]+)?)", text, re.MULTILINE):
        assert {words, words.split()[0]} & {program.words for program in PROGRAMS}, words
    for path in re.findall(r"\b((?:train|eval|trackers|tests|ops|colabs)/[\w/.]+\.(?:py|ipynb|safetensors))\b", text):
        assert "NAME" in path or (ROOT / path).is_file(), path
    for line in text.splitlines():
        named = [name for name in re.findall(r"--tracker ([\w.]+)", line) if name in trackers.names()]
        configs = [trackers.get(name).config for name in named or trackers.names()]
        trained = [runpy.run_path(str(ROOT / path))["get_config"]() for path in set(re.findall(CONFIG_FILE, line))]
        if page.parent == ROOT / "train" and not trained:
            trained = [runpy.run_path(str(path))["get_config"]() for path in TRAINING_CONFIGS]
        for field in re.findall(r"--set ([a-z][\w.]*)=", line) if ":ENTRY" not in line else ():
            assert any(has_field(config, field) for config in [*configs, *trained]), f"{field}: {line}"


CONFIG_FILE = r"train/configs/\w+\.py"
TRAINING_CONFIGS = [
    ROOT / "train" / "configs" / f"{name}.py" for name in ("dimp_smoke", "siamrpn_smoke", "memtrack_smoke")
]


def has_field(config, path):
    """Whether a config has the field at a dotted path."""
    for name in path.split("."):
        if not hasattr(config, name):
            return False
        config = getattr(config, name)
    return True


def test_the_placeholder_of_the_projects_address_is_shown_nowhere():
    if "OWNER" in URL:
        for page in PAGES:
            assert URL not in page.read_text() and "OWNER" not in page.read_text(), page


def test_the_moving_picture_is_small_and_moves_and_the_other_is_smaller():
    picture, page = re.findall(r'<img src="([^"]+)"', README.read_text())
    assert (ROOT / page).stat().st_size < 2e5
    data = (ROOT / picture).read_bytes()
    assert len(data) < 1.5e6 and data[:4] == b"RIFF" and data.count(b"ANMF") > 50
