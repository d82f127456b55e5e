"""The encoders by name: what each is made of, and its shape for a small generator."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from latentlab.encoders.backbone import CodeEncoder, EncoderConfig, Pyramid
from latentlab.encoders.clcae import ClcaeConfig, ClcaeEncoder
from latentlab.encoders.e4e import E4eEncoder
from latentlab.encoders.feature_space import FeatureEncoder
from latentlab.encoders.feature_style import FeatureStyle, FeatureStyleConfig
from latentlab.encoders.psp import PspEncoder, WEncoder, slim_w_config
from latentlab.encoders.restyle import restyle_config
from latentlab.encoders.style_transformer import StyleTransformer
from latentlab.stylegan import GeneratorConfig

Shape = EncoderConfig | ClcaeConfig | FeatureStyleConfig

ENCODERS: dict[str, type[CodeEncoder]] = {
    "w_encoder": WEncoder,
    "psp": PspEncoder,
    "e4e": E4eEncoder,
    "restyle": PspEncoder,
    "lsap_e": E4eEncoder,
    "style_transformer": StyleTransformer,
}


class FeatureKind(NamedTuple):
    """An encoder into F space, its configuration and the slim shape of it."""

    network: type[FeatureEncoder]
    config: type[ClcaeConfig] | type[FeatureStyleConfig]
    slim: Callable[[GeneratorConfig], ClcaeConfig | FeatureStyleConfig]


FEATURE_ENCODERS = {
    "clcae": FeatureKind(ClcaeEncoder, ClcaeConfig, ClcaeConfig.slim),
    "clcae_multi_token": FeatureKind(ClcaeEncoder, ClcaeConfig, lambda g: ClcaeConfig.slim(g, "multi_token")),
    "feature_style": FeatureKind(FeatureStyle, FeatureStyleConfig, FeatureStyleConfig.slim),
}


def slim_config(name: str, generator: GeneratorConfig) -> Shape:
    """The shape of the named encoder for a small generator, see ``EncoderConfig.slim``."""
    _check(name)
    if name in FEATURE_ENCODERS:
        return FEATURE_ENCODERS[name].slim(generator)
    if name == "w_encoder":
        return slim_w_config(generator)
    slim = EncoderConfig.slim(generator)
    return restyle_config(slim, pyramid=True) if name == "restyle" else slim


def config_from(name: str, values: Mapping[str, Any]) -> Shape:
    """The shape of the named encoder from the plain types that its ``to_dict`` gave."""
    _check(name)
    return (FEATURE_ENCODERS[name].config if name in FEATURE_ENCODERS else EncoderConfig).from_dict(values)


def build_encoder(name: str, config: Shape, seed: int = 0) -> Pyramid:
    """An untrained encoder; ``seed`` draws its weights."""
    _check(name)
    network = FEATURE_ENCODERS[name].network if name in FEATURE_ENCODERS else ENCODERS[name]
    return network(config, seed)


def _check(name: str) -> None:
    known = (*ENCODERS, *FEATURE_ENCODERS)
    if name not in known:
        raise ValueError(f"encoder: expected one of {', '.join(known)}, got {name!r}")
