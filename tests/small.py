"""Small untrained generators, so that a step of a test takes milliseconds."""

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
