"""What training reads: configs, runs with their checkpoints, sources of data sets and prepared ones."""

import json
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

from eval import settings
from tests.campaign.kinds import sequences
from tests.campaign.kinds.base import DOMAIN, Kind, write
from tests.helpers import narrow, small_training
from trackers.rules import validate
from trackers.weights import files
from train import run
from train.checkpoint import CheckpointError
from train.config import read_config
from train.configs import dimp_smoke
from train.datasets import DatasetError, load, prepare
from train.datasets import __main__ as command
from train.held_out import ValidationConfig
from train.loop import TrainingError
from train.samples.loader import FrameError, read_image

ERRORS = (*DOMAIN, DatasetError, CheckpointError, TrainingError, FrameError)
CONFIG = """
    from dataclasses import replace
    from eval.sources.synthetic import ClipConfig
    from train.config import DatasetConfig
    from train.configs import dimp_smoke
    from train.datasets import SYNTHETIC, SyntheticConfig

    def get_config():
        config = dimp_smoke.get_config()
        clips = SyntheticConfig(num_clips=2, clip=ClipConfig(height=96, width=128, num_frames=24))
        return replace(
            config,
            datasets=(DatasetConfig(SYNTHETIC, probability=0.5, synthetic=clips),),
            loader=replace(config.loader, batch_size=2, workers=0),
            loop=replace(config.loop, steps=20, save_every=10),
            optimizer=replace(config.optimizer, decay_every=5, clip=1.0),
        )
"""
SHORT = replace(small_training.CONFIG, steps=4, save_every=2)
FRAMES = 3


def _read_config(folder: Path) -> None:
    validate(read_config(folder / "mine.py", ["loop.seed=1"]))


def _made_of() -> dict:
    return {**settings.plain(dimp_smoke.get_config()), "weights_sha256": None}


def _make_run(folder: Path) -> None:
    """What a training's folder has besides its checkpoints."""
    write(folder / run.SETTINGS, json.dumps(_made_of(), indent=1))
    write(folder / "checkpoints" / "5" / "state", "")
    info = {"config": _made_of(), "steps": 5, "validation": {"auc": 0.5, "norm_precision": 0.4}}
    files.save(folder / run.BEST, narrow.start("siamfc"), model="siamfc", info=info)


def _resume(folder: Path) -> None:
    run.refuse_other_run(folder, _made_of())
    run.best_score(folder, ValidationConfig(), 5)


def _train(folder: Path) -> None:
    small_training.train(folder / "run", SHORT)


def _train_on(folder: Path) -> None:
    small_training.train(folder / "run", replace(SHORT, steps=6))


def _make_voc(root: Path) -> None:
    boxes = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>2</ymin>"
        "<xmax>12</xmax><ymax>9</ymax></bndbox></object>"
        for name in ("cat", "sports ball")
    )
    for stem in ("a", "b"):
        write(root / "JPEGImages" / f"{stem}.jpg", sequences.encoded(".jpg"))
        write(
            root / "Annotations" / f"{stem}.xml", f"<annotation><filename>{stem}.jpg</filename>{boxes}</annotation>\n"
        )
    write(root / "ImageSets" / "Main" / "train.txt", "a  1\nb -1\n")


def _make_csv(root: Path) -> None:
    write(root / "JPEGImages" / "a.jpg", sequences.encoded(".jpg"))
    write(root / "JPEGImages" / "b.png", sequences.encoded(".png"))
    write(root / "annotations.csv", "image,class,x,y,w,h,truncated\na.jpg,cat,2,1,9,8,0\nb.png,dog,1.5,2,10,9,1\n")


def _make_coco(root: Path) -> None:
    for number in (1, 2):
        write(root / "train2017" / f"{number:012}.jpg", sequences.encoded(".jpg"))
    content = {
        "images": [{"id": n, "file_name": f"{n:012}.jpg", "height": 16, "width": 20} for n in (1, 2)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1.5, 2, 9, 8], "area": 72.0, "iscrowd": 0},
            {"id": 8, "image_id": 2, "category_id": 1, "bbox": [2, 2, 9, 8], "area": 72.0, "iscrowd": 1},
            {"id": 9, "image_id": 2, "category_id": 1, "bbox": [3, 2, 9, 8], "area": 72.0, "iscrowd": 0},
        ],
    }
    write(root / "annotations" / "instances_train2017.json", json.dumps(content))


SOURCES = {
    "folder": sequences.MAKERS["folder"],
    "got10k": sequences.MAKERS["got10k"],
    "trackingnet": sequences.MAKERS["trackingnet"],
    "voc": _make_voc,
    "csv": _make_csv,
    "coco": _make_coco,
}


def _prepare(name: str):
    def read(folder: Path) -> list[str]:
        problems: list[str] = []
        with tempfile.TemporaryDirectory() as out:
            prepare(name, folder, out, problems=problems, decode=True)
        return problems

    return read


def _make_list(folder: Path) -> None:
    write(folder / "names.txt", "a\n1\n")
    sequences.MAKERS["folder"](folder / "source")


def _prepare_listed(folder: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as out:
        return command_lines(
            ["folder", "--source", str(folder / "source"), "--list", str(folder / "names.txt"), "--data_dir", out]
        )


def command_lines(arguments: list[str]) -> list[str]:
    """The error that `python -m train.datasets` prints."""
    import contextlib
    import io

    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), contextlib.redirect_stdout(io.StringIO()):
        status = command.main(arguments)
    errors = [line for line in stream.getvalue().splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if status else 0), stream.getvalue()
    return errors


def _make_prepared(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as source:
        _make_csv(Path(source))
        prepare("csv", source, folder)


def _read_prepared(folder: Path) -> list[FrameError]:
    dataset, problems = load("csv", folder), []
    for record in range(len(dataset.frames)):
        try:
            read_image(dataset, 0, record)
        except FrameError as error:
            problems.append(error)
    return problems


KINDS = {
    "train.config": Kind(
        lambda folder: write(folder / "mine.py", textwrap.dedent(CONFIG)), _read_config, ERRORS, names_file=False
    ),
    "train.run": Kind(_make_run, _resume, ERRORS),
    "train.checkpoint": Kind(_train, _train_on, (*ERRORS, OSError), quick=False),
    **{f"source.{name}": Kind(make, _prepare(name), (*ERRORS, OSError), quick=False) for name, make in SOURCES.items()},
    "source.list": Kind(_make_list, _prepare_listed, (*ERRORS, OSError), quick=False),
    "train.prepared": Kind(_make_prepared, _read_prepared, (*ERRORS, OSError), quick=False),
}
