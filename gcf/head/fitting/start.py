"""Where training starts: from random weights, or from a saved head, all of it or its classifier alone to be learned."""

from dataclasses import dataclass, replace

from torch import nn

from gcf.errors import UsageError
from gcf.head.fitting.labelled import LabelledFeatures
from gcf.head.models.build import head_config
from gcf.head.models.config import HeadConfig, TrainConfig
from gcf.head.models.saved import SavedHead, given_or_loaded
from gcf.head.models.standard import inner_head, take_input

CLASSIFIER = "classifier."  # every head ends in a layer of this name
DEFAULT_HEAD = "gcf-256"


@dataclass(frozen=True, eq=False)
class Start:
    """head: where to take weights from (None: nowhere); keep_classifier: its classes are the data's, in their order."""

    head: SavedHead | None = None
    keep_classifier: bool = False
    freeze: bool = False

    def shape(self, head: HeadConfig, settings: TrainConfig, *, exclusive: bool) -> HeadConfig:
        """The head to build: the saved one reads what it was trained on, a new one what the settings say."""
        standardised = settings.standardises(head) if self.head is None else self.head.config.standardised
        return replace(head, exclusive=exclusive, standardised=standardised)

    def prepare(self, module: nn.Module) -> nn.Module:
        """Put the weights into a freshly built head, with what it reads, and freeze what is not to be trained."""
        if self.head is None:
            return module
        own, saved = inner_head(module), inner_head(self.head.module)
        weights = own.state_dict()
        for name, value in saved.state_dict().items():
            if self.keep_classifier or not name.startswith(CLASSIFIER):
                weights[name] = value.clone()
        own.load_state_dict(weights)
        take_input(module, self.head.module)
        for name, parameter in own.named_parameters():
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
        shape = Start().shape(head_config(head or DEFAULT_HEAD), settings, exclusive=exclusive)
        return fit_to_clips(shape, settings), Start()
    saved = given_or_loaded(settings.init, head_file=settings.head_file)
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
    if settings.standardise not in (None, saved.config.standardised):
        reads = "standardised descriptors" if saved.config.standardised else "descriptors as they are"
        raise UsageError(f"the head to start from reads {reads}; leave standardise out")
    same = saved.classes == tuple(data.classes)
    start = Start(saved, keep_classifier=same, freeze=settings.freeze != "none")
    return start.shape(saved.config, settings, exclusive=exclusive), start


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
