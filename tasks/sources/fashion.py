"""Fashion-MNIST by name, whole or as the small part that is shipped.

References
----------
H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
arXiv:1708.07747, 2017. MIT licence.
"""

from __future__ import annotations

import os
from pathlib import Path

from tasks.sources.files import existing_folder
from tasks.sources.idx import Idx
from tasks.sources.places import cache_folder, data_folder, fetch
from tasks.sources.samples import SourceError

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
LICENCE = "MIT, (c) 2017 Zalando SE, https://tech.zalando.com"

#: The authors' own server; what it sends is checked, so that it needs no encryption.
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
#: SHA-256 of the files on it. Debian's files differ in gzip's header only.
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
#: Where Debian's package dataset-fashion-mnist puts them.
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
FOLDER = "fashion-mnist"


def _files_in(folder: Path) -> list[str] | None:
    """The four files in a folder, gzipped or plain; None when one is missing."""
    found = []
    for name in CHECKSUMS:
        present = [folder / name, folder / name.removesuffix(".gz")]
        file = next((path for path in present if path.is_file()), None)
        if file is None:
            return None
        found.append(str(file))
    return found


def _source(files: list[str], name: str) -> Idx:
    images, labels, test_images, test_labels = files
    return Idx(images, labels, test_images, test_labels, CLASSES, name=name, licence=LICENCE)


def _places() -> list[tuple[str, Path]]:
    data = data_folder()
    named = [] if data is None else [("DUSKFLOW_DATA", data / FOLDER), ("DUSKFLOW_DATA", data)]
    debian = ("Debian's package dataset-fashion-mnist", Path(DEBIAN_FOLDER))
    return [*named, debian, ("the cache folder", cache_folder() / FOLDER)]


def fashion_mnist(path: str | os.PathLike[str] | None = None, *, download: bool = True) -> Idx:
    """Fashion-MNIST: 60,000 images to train and 10,000 to test, 28 x 28 grey, ten classes.

    Looked for in `path` alone if it is given; else in the folder that DUSKFLOW_DATA names (or ``fashion-mnist`` in
    it), where Debian's package dataset-fashion-mnist puts it, and in the cache folder; else downloaded into that.

    Parameters
    ----------
    path : path, optional
        The folder with the four IDX files, plain or gzipped.
    download : bool
        Whether to fetch the files (30 MB) when they are nowhere.

    Returns
    -------
    Idx
        Training rows first; `splits` tells them from the test rows.

    Raises
    ------
    FileNotFoundError
        Saying where it was looked for and how to get it.
    """
    if path is not None:
        folder = Path(existing_folder(path))
        files = _files_in(folder)
        if files is None:
            raise FileNotFoundError(
                f"expected the files {', '.join(CHECKSUMS)} in {folder}, received {_listing(folder)}"
            )
        return _source(files, "fashion_mnist")
    places = _places()
    for _, folder in places:
        files = _files_in(folder)
        if files is not None:
            return _source(files, "fashion_mnist")
    looked = "; ".join(f"{folder} ({what})" for what, folder in places)
    if not download:
        raise FileNotFoundError(_nowhere(looked, "downloading was turned off"))
    return _source(_fetch(cache_folder() / FOLDER, looked), "fashion_mnist")


def _listing(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    return ", ".join(names[:6] + ["..."] * (len(names) > 6)) or "an empty folder"


def _nowhere(looked: str, why: str) -> str:
    return (
        f"expected Fashion-MNIST in one of: {looked}; it is in none, and {why}. Do install Debian's package "
        "dataset-fashion-mnist, or pass path=, or set DUSKFLOW_DATA to the folder with its four .gz files"
    )


def _fetch(folder: Path, looked: str) -> list[str]:
    for name, checksum in CHECKSUMS.items():
        if not (folder / name).is_file():
            try:
                fetch(f"{URL}/{name}", folder / name, "sha256", checksum)
            except (OSError, SourceError) as error:
                raise FileNotFoundError(_nowhere(looked, str(error))) from error
    return [str(folder / name) for name in CHECKSUMS]


def sample_images() -> Idx:
    """The shipped part of Fashion-MNIST: 600 training and 100 test images of each of ten classes.

    Returns
    -------
    Idx
        7,000 rows, training rows first.
    """
    files = _files_in(Path(__file__).parent.parent / "samples")
    if files is None:
        raise FileNotFoundError("expected the sample images beside the package, found none; do install duskflow again")
    return _source(files, "sample_images")
