"""Public backbones by name, as torchvision publishes them: fetched once, checked, and kept in the cache."""

from pathlib import Path
from typing import NamedTuple

from eval.files import cache_folder

BASE = "https://download.pytorch.org/models/"
TIMEOUT = 30  # seconds without an answer


class Backbone(NamedTuple):
    file: str  # below BASE
    sha256: str


BACKBONES = {
    "resnet18": Backbone("resnet18-f37072fd.pth", "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"),
    "resnet50": Backbone("resnet50-0676ba61.pth", "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
    "mobilenet_v2": Backbone(
        "mobilenet_v2-b0353104.pth", "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
    ),
}


def fetched(name: str) -> Path:
    """The file of a backbone of `BACKBONES`, fetched where the cache does not have it whole; progress on a terminal.

    Raises `WeightsError`, one line with the address and the place for a file fetched by other means.
    """
    # Slow, and with trackers comes jax: who only reads BACKBONES need not wait for them
    import pooch
    from tqdm import tqdm

    from trackers.weights import WeightsError

    backbone, folder = BACKBONES[name], cache_folder() / "weights"
    address, path = BASE + backbone.file, folder / backbone.file
    pooch.get_logger().setLevel("ERROR")
    try:
        # total: pooch sets it to what the server says; disable=None: nothing but on a terminal
        with tqdm(desc=backbone.file, total=1, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=TIMEOUT)
            pooch.retrieve(address, f"sha256:{backbone.sha256}", backbone.file, folder, downloader=downloader)
    except (OSError, ValueError) as error:  # requests' are OSErrors; ValueError: another checksum
        reason = " ".join(str(error).split())
        fix = f"fetch it by other means and give it as SOURCE, or put it at {path}"
        raise WeightsError(f"{name}: cannot be fetched from {address}; {fix} ({reason:.300})") from error
    return path
