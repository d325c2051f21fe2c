"""`train.distill` in a minute on two CPU cores, see `smoke`; without `--weights` the teacher is random."""

from train.configs import distill_resnet16, smoke


def get_config():
    return smoke.shorten(distill_resnet16.get_config(), steps=60, batch_size=4)
