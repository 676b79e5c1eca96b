"""Read images at other places: bilinear interpolation in whole numbers, so that every machine gives the same bytes.

Coordinates are rounded to 1/32 of a pixel and OpenCV's `remap` is given them as whole numbers, with weights that are
whole numbers too: nothing is left to the rounding of a processor. A block of images is one tall picture and one call.
"""

from __future__ import annotations

import numpy as np

PARTS = 32  # of a pixel
_FINE = 10  # bits below 1 / PARTS that survive until row and column are added
_BLOCK = 50_176  # pixels whose coordinates stay in cache, as of 64 images of 28 x 28
_MOST_ROWS = 32_000  # OpenCV's coordinates are int16
_FARTHEST = 2.0**60
_AFTER = 2  # pixels of the frame behind an image, right and below
BORDERS = ("zeros", "edge", "reflect")


def warp(samples: np.ndarray, matrices: np.ndarray, border: str, displacement: np.ndarray | None = None) -> np.ndarray:
    """Give every pixel the value that lies elsewhere in its image.

    Parameters
    ----------
    samples : ndarray of uint8, shape (n, height, width, channel)
        With 1, 3 or 4 channels.
    matrices : ndarray of float64, shape (n, 2, 3)
        From (column, row, 1) of the result to (column, row) of the image.
    border : {"zeros", "edge", "reflect"}
        What lies beyond the edge.
    displacement : ndarray of int32, shape (n, 2, height, width), optional
        Added to the columns and rows where is read, in 1/32 of a pixel.

    Returns
    -------
    ndarray of uint8, shape (n, height, width, channel)
    """
    n, height, width, _ = samples.shape
    if max(height, width) > _MOST_ROWS:
        raise ValueError(f"expected images of at most {_MOST_ROWS:,} pixels a side, received {height} x {width}")
    # Where images share a map (they go one way or the other), it is made once.
    ways, way = np.unique(matrices, axis=0, return_inverse=True)
    if displacement is not None or 2 * len(ways) > n:
        return _warp_blocks(samples, matrices, border, displacement)
    out = np.empty_like(samples)
    for number in range(len(ways)):
        rows = np.flatnonzero(way.reshape(-1) == number)
        step = _step(height, width)
        places = _Places(np.repeat(ways[number : number + 1], min(step, len(rows)), 0), height, width, border)
        if step == 1:
            for row in rows.tolist():
                places.read(samples[row : row + 1], out[row : row + 1])
            continue
        for low in range(0, len(rows), step):
            chosen = rows[low : low + step]
            out[chosen] = places.read(samples[chosen])
    return out


def _warp_blocks(samples: np.ndarray, matrices: np.ndarray, border: str, displacement: np.ndarray | None) -> np.ndarray:
    n, height, width, _ = samples.shape
    out, step = np.empty_like(samples), _step(height, width)
    for low in range(0, n, step):
        rows = slice(low, low + step)
        moved = None if displacement is None else displacement[rows]
        out[rows] = _Places(matrices[rows], height, width, border, moved).read(samples[rows])
    return out


def _step(height: int, width: int) -> int:
    return max(1, min(_BLOCK // (height * width), _MOST_ROWS // (height + 1 + _AFTER)))


class _Places:
    """Where a block of images is read, in the form that OpenCV takes."""

    def __init__(
        self, matrices: np.ndarray, height: int, width: int, border: str, displacement: np.ndarray | None = None
    ) -> None:
        count = len(matrices)
        # Images of a block lie below each other, in a frame: zeros keep one from showing in another, and OpenCV is
        # twice as fast where no place needs a neighbour beyond the picture.
        self.before = int(border == "zeros")
        high = height + self.before + _AFTER
        self.frame: np.ndarray | None = None
        self.whole = np.empty((count, height, width, 2), np.int16)
        self.parts = np.zeros((count, height, width), np.uint16)
        for axis, side in enumerate((width, height)):
            place = _along(matrices[:, axis], height, width)
            if displacement is not None:
                place += displacement[:, axis]
            place = _inside(place, side, border)
            fraction = (place & (PARTS - 1)).astype(np.uint16)
            place >>= 5
            place += place.dtype.type(self.before)
            if axis:
                fraction <<= 5
                # As int16: a block has at most 32,000 rows.
                self.whole[..., 1] = place
                self.whole[..., 1] += (np.arange(count) * high).astype(np.int16)[:, None, None]
            else:
                self.whole[..., 0] = place
            self.parts += fraction

    def read(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Read at the places; there may be fewer images than places for them."""
        import cv2

        count, height, width, channels = images.shape
        framed = count, height + self.before + _AFTER, width + self.before + _AFTER, channels
        if self.frame is None or self.frame.shape != framed:
            self.frame = np.zeros(framed, np.uint8)
        self.frame[:, self.before : -_AFTER, self.before : -_AFTER] = images
        out = np.empty_like(images) if out is None else out
        cv2.remap(
            self.frame.reshape(-1, framed[2], channels),
            self.whole[:count].reshape(-1, width, 2),
            self.parts[:count].reshape(-1, width),
            cv2.INTER_LINEAR,
            dst=out.reshape(-1, width, channels),
            borderMode=cv2.BORDER_REPLICATE,
        )
        return out


def _along(rows: np.ndarray, height: int, width: int) -> np.ndarray:
    """One coordinate of where is read, (n, height, width) in 1/32 of a pixel; a sum of two small tables."""
    across, down, shift = (rows * float(PARTS << _FINE)).T
    columns = np.rint(across[:, None] * np.arange(width))
    lines = np.rint(down[:, None] * np.arange(height) + shift[:, None])
    # A map that shrinks a lot, as a triangle moved to nearly a line gives, reads further away than int32 counts.
    far = np.abs(columns).max() + np.abs(lines).max() >= 1 << 30
    dtype = np.int64 if far else np.int32
    at_columns = np.clip(columns, -_FARTHEST, _FARTHEST).astype(dtype)
    at_rows = np.clip(lines, -_FARTHEST, _FARTHEST).astype(dtype) + (1 << (_FINE - 1))
    place = at_rows[:, :, None] + at_columns[:, None, :]
    place >>= _FINE
    return np.asarray(place)


def _inside(place: np.ndarray, side: int, border: str) -> np.ndarray:
    """Move places beyond the edge to where their value lies; int16 where that holds them."""
    last = (side - 1) * PARTS
    # One pixel beyond the edge all is zero already.
    low, high = (-PARTS, last + PARTS) if border == "zeros" else (0, last)
    if border == "reflect" and side > 1:  # about the middle of the pixels at the edge
        np.mod(place, 2 * last, out=place)
        np.minimum(place, 2 * last - place, out=place)
    np.clip(place, low, high, out=place)
    return place.astype(np.int16) if high + PARTS < 32_768 else place


def about_centre(linear: np.ndarray, height: int, width: int, shift: np.ndarray | float = 0.0) -> np.ndarray:
    """Complete linear maps so that the image's centre stays where it is, then move it.

    Parameters
    ----------
    linear : ndarray of float64, shape (n, 2, 2)
    height, width : int
    shift : ndarray of float64, shape (n, 2)
        Columns and rows.

    Returns
    -------
    ndarray of float64, shape (n, 2, 3)
    """
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.concatenate([linear, (centre - linear @ centre + shift)[:, :, None]], axis=2)
