"""StyleGAN2: layers, generator and discriminator. Imports nothing else from latentlab."""

from .discriminator import Discriminator, DiscriminatorConfig
from .generator import Generator, GeneratorConfig, StyleLayer

__all__ = ["Discriminator", "DiscriminatorConfig", "Generator", "GeneratorConfig", "StyleLayer"]
