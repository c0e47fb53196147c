"""Initial weights of a head, all drawn from one generator."""

import torch
from torch import nn

EMBEDDING_STD = 0.02  # as BERT and ViT draw their positions


def initialise(head: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter in place, in the order of the modules; no global state is touched.

    Linear layers and GRUs get torch's own ranges, norms ones and zeros. A module with parameters of its own has a
    method `initialise(generator)`. TypeError where a layer is of no kind known here: its memory would hold anything.
    """
    with torch.no_grad():
        for layer in head.modules():
            own = list(layer.parameters(recurse=False))
            if own and callable(draw := getattr(layer, "initialise", None)):
                draw(generator)
            elif isinstance(layer, nn.Linear):
                _uniform(own, layer.in_features**-0.5, generator)
            elif isinstance(layer, nn.GRU):
                _uniform(own, layer.hidden_size**-0.5, generator)
            elif isinstance(layer, nn.LayerNorm):
                layer.reset_parameters()  # draws nothing
            elif isinstance(layer, nn.Embedding):
                layer.weight.normal_(0, EMBEDDING_STD, generator=generator)
            elif own:
                raise TypeError(f"no initial values are known for {type(layer).__name__}")


def _uniform(parameters: list[nn.Parameter], bound: float, generator: torch.Generator) -> None:
    for parameter in parameters:
        parameter.uniform_(-bound, bound, generator=generator)
