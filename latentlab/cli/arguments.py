"""Arguments that several commands share."""


def device_of(name: str) -> str:
    """The device that ``--device`` names; ``ValueError`` where there is none of that name."""
    import torch

    has_cuda = torch.cuda.is_available()
    device = {"gpu": "cuda", "auto": "cuda" if has_cuda else "cpu"}.get(name, name)
    if device != "cpu" and not (device.startswith("cuda") and has_cuda):
        available = "cpu, cuda or auto" if has_cuda else "cpu or auto, since there is no CUDA device"
        raise ValueError(f"--device: expected {available}, got {name!r}")
    return device


def loss_weights(given: list[str]) -> dict[str, float]:
    """NAME=WEIGHT of the command line, as a dict."""
    weights = {}
    for text in given:
        name, _, weight = text.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ValueError(f"--loss: expected NAME=WEIGHT, e.g. perceptual=0.8, got {text!r}") from None
    return weights
