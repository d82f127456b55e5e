"""Architectures that the losses and the judges share."""
