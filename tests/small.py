"""Small untrained generators, so that a step of a test takes milliseconds."""

from latentlab.encoders.backbone import CodeEncoder
from latentlab.encoders.kinds import build_encoder, slim_config
from latentlab.stylegan.generator import Generator, GeneratorConfig

CHANNELS = {16: (16, 16, 8), 32: (16, 16, 16, 8)}


def small_generator(seed: int = 1, resolution: int = 16) -> Generator:
    """A frozen generator, z = w = 16, whose noise shows in the picture."""
    config = GeneratorConfig(resolution, 16, 16, 2, CHANNELS[resolution])
    G = Generator(config, seed=seed).requires_grad_(False).eval()
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return G


def small_e4e(G: Generator) -> CodeEncoder:
    """An untrained encoder of e4e for a small generator, around the mean of its W."""
    encoder = build_encoder("e4e", slim_config("e4e", G.config)).requires_grad_(False).eval()
    encoder.set_average(G.w_avg)
    return encoder
