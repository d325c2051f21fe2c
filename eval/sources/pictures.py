"""Images as JPEG, for a page that shows them."""

import cv2
import numpy as np

QUALITY = 85


def jpeg(image: np.ndarray, width: int | None = None) -> bytes:
    """`[H, W, 3]` uint8 RGB as JPEG, at most `width` pixels wide."""
    if width is not None and image.shape[1] > width:
        height = max(round(image.shape[0] * width / image.shape[1]), 1)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1].tobytes()
