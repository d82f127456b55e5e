"""The encoders by name: what each is made of, and its shape for a small generator."""

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.psp import PspEncoder, WEncoder, slim_w_config
from latentlab.encoders.restyle import restyle_config
from latentlab.stylegan import GeneratorConfig

ENCODERS: dict[str, type[CodeEncoder]] = {
    "w_encoder": WEncoder,
    "psp": PspEncoder,
    "e4e": E4eEncoder,
    "restyle": PspEncoder,
    "lsap_e": E4eEncoder,
}


def slim_config(name: str, generator: GeneratorConfig) -> EncoderConfig:
    """The shape of the named encoder for a small generator, see ``EncoderConfig.slim``."""
    _check(name)
    if name == "w_encoder":
        return slim_w_config(generator)
    slim = EncoderConfig.slim(generator)
    return restyle_config(slim, pyramid=True) if name == "restyle" else slim


def build_encoder(name: str, config: EncoderConfig, seed: int = 0) -> CodeEncoder:
    """An untrained encoder; ``seed`` draws its weights."""
    _check(name)
    return ENCODERS[name](config, seed)


def _check(name: str) -> None:
    if name not in ENCODERS:
        raise ValueError(f"encoder: expected one of {', '.join(ENCODERS)}, got {name!r}")
