"""The heads of `dimp_tiny` on a backbone that has learned from a ResNet-18: photographs, real video and drawn clips.

python -m train.distill --config train/configs/distill_resnet16.py --weights r18.safetensors
python -m train.dimp --config train/configs/dimp_tiny_distilled.py --weights runs/distill_resnet16/weights.safetensors

The released weights went through both once more, from there and at lower rates: train/NOTES.md, December 2.
"""

from dataclasses import replace

from train import loop
from train.configs import dimp18_heads_video, dimp_tiny
from train.samples import samplers


def get_config():
    first = dimp_tiny.harder(dimp_tiny.get_config())
    return replace(
        first,
        datasets=dimp18_heads_video.DATASETS,
        optimizer=loop.OptimizerConfig(
            groups=(("^classifier/params/optimizer/", 1e-3), ("^classifier/", 3e-4), ("^iou_net/", 1e-3)),
            decay_every=300,
            decay=0.4,
            warmup=100,
            clip=100.0,
            average=0.995,
        ),
        loop=replace(first.loop, steps=1000, save_every=200),
        loader=replace(first.loader, sampling=samplers.FrameSampling(train_frames=2, test_frames=1), batch_size=16),
        loss=replace(first.loss, backbone_statistics="stored"),
        identity_classifier=True,
    )
