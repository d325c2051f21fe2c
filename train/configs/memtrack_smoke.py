"""MemTrack in a few minutes on two CPU cores, see `smoke`."""

from dataclasses import replace

from train.configs import memtrack_photos, smoke

STEPS = 4  # of a clip


def get_config():
    config = smoke.shorten(memtrack_photos.get_config(), steps=60, batch_size=2)
    sampling = replace(config.loader.sampling, train_frames=STEPS, test_frames=STEPS)
    loader = replace(config.loader, sampling=sampling)
    return replace(config, loss=replace(config.loss, chunk=STEPS), loader=loader)
