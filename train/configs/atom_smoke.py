"""Two minutes on two CPU cores: ATOM's IoU-Net on a few procedural clips and small crops.

It shows that everything works. With an ImageNet ResNet-18 (`--weights`) the loss falls faster than on the random one.
"""

from eval.sources.synthetic import ClipConfig
from train import atom, loop, program
from train.configs import dimp_tiny
from train.datasets import SYNTHETIC, SyntheticConfig
from train.samples import frames


def get_config():
    loader, prepare = dimp_tiny.loader(batch_size=4), dimp_tiny.prepare()
    clips = SyntheticConfig(num_clips=24, clip=ClipConfig(num_frames=40))
    return program.Config(
        datasets=(program.DatasetConfig(SYNTHETIC, synthetic=clips),),
        optimizer=loop.OptimizerConfig(groups=(("^iou_net/", 1e-3),), warmup=10),
        loop=loop.LoopConfig(steps=100, log_every=10, save_every=50),
        loss=atom.LossConfig(),
        loader=frames.LoaderConfig(sampling=frames.ATOM.sampling, batch_size=8, crops=loader.crops),
        prepare=frames.PrepareConfig(proposals=prepare.proposals, labels=None),
    )
