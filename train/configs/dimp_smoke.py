"""`dimp_tiny` in a few minutes on two CPU cores, see `smoke`."""

from train.configs import dimp_tiny, smoke


def get_config():
    return smoke.shorten(dimp_tiny.get_config(), steps=150, batch_size=4, warmup=20)
