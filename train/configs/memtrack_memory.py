"""MemTrack's memory and head alone, on the backbone of a SiamFC that was trained before: a small data set, a CPU.

    python -m train.datasets csv --source PHOTOS --data-dir data
    python -m train.siamfc --config train/configs/siamfc_photos.py
    python -m train.memtrack --config train/configs/memtrack_memory.py --weights runs/siamfc_photos/weights.safetensors

The samples are those of `memtrack_photos`, with longer clips: a frozen backbone costs a third, and most of what the
memory has to learn is in the drawn clips. In half of the clips the tracker has slipped off the target for a while, so
that a template which does not show it is best not read. The head's one scale and offset learn faster than the rest.
"""

from dataclasses import replace

from train import loop
from train.configs import memtrack_photos
from train.samples import clips as clip_data

STEPS = 8  # of a clip


def get_config():
    config = memtrack_photos.get_config()
    photographs, clips = config.datasets
    sampling = replace(config.loader.sampling, train_frames=STEPS, test_frames=STEPS, max_gap=48)
    return replace(
        config,
        datasets=(replace(photographs, probability=0.25), replace(clips, probability=0.75)),
        optimizer=loop.OptimizerConfig(
            groups=(("^head/", 1e-2), ("^memory/", 1e-3)), decay_every=400, decay=0.5, warmup=50, clip=20.0
        ),
        loop=replace(config.loop, steps=1500),
        loss=replace(config.loss, chunk=STEPS, backbone_statistics="stored"),
        loader=replace(config.loader, sampling=sampling, slips=clip_data.SlipConfig(probability=0.5)),
    )
