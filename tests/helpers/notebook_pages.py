"""What of a notebook depends on the project's address in pyproject.toml: the badge and the install cell.

    python -m tests.helpers.notebook_pages    # writes both into colabs/*.ipynb, after the address has changed

While the address is a placeholder there is no badge, and the install cell works in a clone or beside an uploaded one.
"""

import json
import re
import tomllib

from tests.helpers import places

NOTEBOOKS = sorted((places.REPOSITORY / "colabs").glob("*.ipynb"))
URL = tomllib.loads((places.REPOSITORY / "pyproject.toml").read_text())["project"]["urls"]["Homepage"]
NEEDS = {  # a module that tells an installation, and the extras
    "track_your_video": ("eval.track", "[notebook]"),
    "train_dimp": ("train.loop", "[train,export]"),
}
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)\n\n")

INSTALL = """\
# @title Install: nothing to do where the library is installed
import sys
from importlib import import_module, metadata
from pathlib import Path

try:
    import_module("MODULE")
except ImportError:
    jax_stays = " ".join(f"{d.name}=={d.version}" for d in metadata.distributions() if d.name in ("jax", "jaxlib"))
    places = (Path.cwd(), Path.cwd().parent, Path.cwd() / "jaxtrack")
    clone = next((place for place in places if (place / "trackers" / "base.py").is_file()), None)
    if clone is None:
        ELSE
    else:
        %pip install --quiet --editable "{clone}EXTRAS" {jax_stays}
        sys.path.insert(0, str(clone))"""
ASK = 'raise ImportError("put the folder of the project, jaxtrack, beside this notebook and run this again") from None'
FETCH = '%pip install --quiet "jaxtrackEXTRAS @ git+URL" {jax_stays}'


def has_address(url: str) -> bool:
    return "OWNER" not in url


def install_cell(stem: str, url: str = URL) -> str:
    """The source of the install cell of notebook `stem`."""
    module, extras = NEEDS.get(stem, ("eval.track", ""))
    text = INSTALL.replace("ELSE", FETCH if has_address(url) else ASK)
    return text.replace("MODULE", module).replace("EXTRAS", extras).replace("URL", url)


def title_cell(stem: str, source: str, url: str = URL) -> str:
    """`source` of the first cell with the badge under its title, or without one."""
    title, _, rest = BADGE.sub("", source).partition("\n\n")
    if not has_address(url):
        return f"{title}\n\n{rest}"
    colab = url.replace("https://github.com/", "https://colab.research.google.com/github/")
    picture = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    return f"{title}\n\n{picture}({colab}/blob/main/colabs/{stem}.ipynb)\n\n{rest}"


def main() -> None:
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text())
        title, install = notebook["cells"][0], next(c for c in notebook["cells"] if c["cell_type"] == "code")
        title["source"] = title_cell(path.stem, "".join(title["source"])).splitlines(keepends=True)
        install["source"] = install_cell(path.stem).splitlines(keepends=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
