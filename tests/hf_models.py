"""Small video models of transformers with random weights, saved with their processors in folders."""

import numpy as np
import torch
from transformers import (
    TimesformerConfig,
    TimesformerForVideoClassification,
    TimesformerModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    VideoMAEModel,
    VivitConfig,
    VivitForVideoClassification,
    VivitImageProcessor,
    VivitModel,
    VJEPA2Config,
    VJEPA2ForVideoClassification,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

SIDE, PATCH = 32, 8
NAMES = ("clap", "jump", "run")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: n for n, name in enumerate(NAMES)}}
CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": SIDE, "width": SIDE}}
PATCHED = {**SMALL, "image_size": SIDE, "patch_size": PATCH, "intermediate_size": 64}


def videomae(**more):
    decoder = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    return VideoMAEConfig(**PATCHED | decoder | {"decoder_intermediate_size": 32, "num_frames": 4} | more)


def timesformer(**more):
    return TimesformerConfig(**PATCHED | {"num_frames": 3} | more)


def vivit(**more):
    sizes = {"image_size": SIDE, "intermediate_size": 64, "num_frames": 6, "tubelet_size": [2, PATCH, PATCH]}
    return VivitConfig(**SMALL | sizes | more)


def vjepa2(**more):
    predictor = {"pred_hidden_size": 24, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
    return VJEPA2Config(
        **SMALL
        | predictor
        | {"crop_size": SIDE, "patch_size": PATCH, "frames_per_clip": 4, "num_pooler_layers": 1}
        | more
    )


# name -> (model class, configuration, kind of processor)
CLASSIFIERS = {
    "videomae": (VideoMAEForVideoClassification, videomae(**LABELS)),
    "videomae-first": (VideoMAEForVideoClassification, videomae(use_mean_pooling=False, **LABELS)),
    "timesformer": (TimesformerForVideoClassification, timesformer(**LABELS)),
    "timesformer-joint": (TimesformerForVideoClassification, timesformer(attention_type="joint_space_time", **LABELS)),
    "vivit": (VivitForVideoClassification, vivit(**LABELS)),
    "vjepa2": (VJEPA2ForVideoClassification, vjepa2(**LABELS)),
}
ENCODERS = {
    "videomae": (VideoMAEModel, videomae()),
    "videomae-pretraining": (VideoMAEForPreTraining, videomae(use_mean_pooling=False)),
    "timesformer": (TimesformerModel, timesformer()),
    "vivit": (VivitModel, vivit()),
    "vjepa2": (VJEPA2Model, vjepa2()),
}


def processor(kind):
    """The processor that published models of a kind have, for small pictures."""
    if kind.startswith("vivit"):
        return VivitImageProcessor(**CROPPED)
    return VJEPA2VideoProcessor(crop_size=SIDE) if kind.startswith("vjepa2") else VideoMAEImageProcessor(**CROPPED)


def built(cls, config):
    """A model whose every parameter is random, those that usually begin as zeros and ones too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = cls(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                scale = parameter.ndim == 1 and name.endswith("weight")  # a norm's
                parameter.normal_(mean=float(scale), std=0.2)
    return model


def saved(folder, cls, config, kind):
    """A folder with the model and its processor; the model."""
    model = built(cls, config)
    model.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return model


def run_processor(of, frames):
    """Frames (T, H, W, 3) uint8 through a processor as its own documentation has it: (1, T, 3, h, w)."""
    video = type(of).__name__.endswith("VideoProcessor")
    batch = of(frames if video else list(frames), return_tensors="pt")
    return batch["pixel_values_videos" if "pixel_values_videos" in batch else "pixel_values"]


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
