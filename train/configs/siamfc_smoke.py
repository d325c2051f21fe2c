"""SiamFC in a few minutes on two CPU cores, see `smoke`."""

from train.configs import siamfc_photos, smoke


def get_config():
    return smoke.shorten(siamfc_photos.get_config(), steps=60, batch_size=4)
