"""StyleGAN2: layers, generator, discriminator and the training of them. Imports nothing else of latentlab."""

from .discriminator import Discriminator, DiscriminatorConfig
from .generator import Generator, GeneratorConfig, StyleLayer

__all__ = ["Discriminator", "DiscriminatorConfig", "Generator", "GeneratorConfig", "StyleLayer"]
