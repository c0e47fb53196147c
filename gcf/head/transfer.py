"""Where training starts: from random weights, or from a saved head, all of it or its classifier alone to be learned."""

from dataclasses import dataclass, replace

from torch import nn

from gcf.errors import UsageError
from gcf.head.config import HeadConfig, TrainConfig, head_config
from gcf.head.labelled import LabelledFeatures
from gcf.head.saved import SavedHead, load_head

CLASSIFIER = "classifier."  # every head ends in a layer of this name
DEFAULT_HEAD = "gcf-256"


@dataclass(frozen=True, eq=False)
class Start:
    """head: where to take weights from (None: nowhere); keep_classifier: its classes are the data's, in their order."""

    head: SavedHead | None = None
    keep_classifier: bool = False
    freeze: bool = False

    def prepare(self, module: nn.Module) -> nn.Module:
        """Put the weights into a freshly built head and freeze what is not to be trained."""
        if self.head is None:
            return module
        weights = module.state_dict()
        for name, value in self.head.module.state_dict().items():
            if self.keep_classifier or not name.startswith(CLASSIFIER):
                weights[name] = value.clone()
        module.load_state_dict(weights)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(not self.freeze or name.startswith(CLASSIFIER))
        if not any(parameter.requires_grad for parameter in module.parameters()):
            raise UsageError("the head has no layer called `classifier`, so freezing all else leaves nothing to train")
        return module


def starting_point(
    head: str | HeadConfig | None, settings: TrainConfig, data: LabelledFeatures
) -> tuple[HeadConfig, Start]:
    """The head to build and where it starts; with `settings.init` the head is that one's.

    Raises RecipeError or HeadError where the saved head is not for these features, UsageError where `head` or the
    clips asked for contradict it.
    """
    exclusive = not data.multi_label
    if settings.init is None:
        return fit_to_clips(head_config(head or DEFAULT_HEAD, exclusive=exclusive), settings), Start()
    saved = settings.init if isinstance(settings.init, SavedHead) else load_head(settings.init)
    saved.check_fits(data.features)
    if head is not None and head_config(head).name != saved.config.name:
        raise UsageError(
            f"the head to start from is a {saved.config.name}, not a {head_config(head).name}; leave it out"
        )
    if saved.config.kind == "logreg":
        raise UsageError("logistic regression is fitted in one go and cannot start from a head; start with another one")
    slots = saved.config.fixed_clips
    if slots is not None and (settings.clip_policy == "all" or settings.num_clips > slots):
        raise UsageError(f"the head to start from takes {slots} clips at most; choose as many with a clip policy")
    same = saved.classes == tuple(data.classes)
    return replace(saved.config, exclusive=exclusive), Start(
        saved, keep_classifier=same, freeze=settings.freeze != "none"
    )


def fit_to_clips(head: HeadConfig, settings: TrainConfig) -> HeadConfig:
    """A gate of a fixed number of slots gets as many as clips are chosen; UsageError where all clips are."""
    if head.fixed_clips is None:
        return head
    if settings.clip_policy == "all":
        raise UsageError(
            f"head {head.name} is built for a fixed number of clips and cannot take all of a video's: "
            f"choose {'--gate token' if head.kind == 'gcf' else 'other positions'}, or another clip policy"
        )
    return head_config(head, gate_clips=settings.num_clips)
