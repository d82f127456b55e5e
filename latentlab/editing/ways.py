"""Ways to find the edit of an attribute, by name: what notebook 04 and ``latentlab benchmark --only edits`` compare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from latentlab.editing.calibration import calibrate, measure_effect
from latentlab.editing.corrected import Corrected, correct
from latentlab.editing.edit import Direction, Edit
from latentlab.editing.ganspace import find_components
from latentlab.editing.interfacegan import find_boundaries
from latentlab.editing.learned import EditLoss, learn_edit
from latentlab.editing.regression import PnDirection, fit_directions, fit_pn_directions
from latentlab.editing.samples import Read, Samples, draw_samples, reader_of
from latentlab.editing.sefa import factorize
from latentlab.editing.sparse import sparse_edits_for
from latentlab.editing.styleflow import ConditionalFlow, flow_edit, train_flow
from latentlab.editing.stylespace import StyleDirection, channel_edit, rank_channels
from latentlab.faces import BINARY_NAMES, MAIN_NAMES
from latentlab.spaces import Statistics, statistics_for

CANDIDATES = 20  # components or channels among which the one that moves an attribute is looked for
PROBES = 32  # samples on which their effects are measured
LIMIT = 16.0  # largest factor between an edit's own unit and one standard deviation of the attribute
FIRST = 1_000  # samples for those ways that need no more than standard deviations and ranges


class Evidence:
    """What the edits of one generator are found from: samples and their readings, drawn once for all ways.

    read, names: what reads attributes, by default the losses' network. held: attributes that conditional ways keep, by
    default the face world's main ones among those that are read, or all. reader, samples: binary attributes as
    probabilities; gradient_reader, gradient_samples: as logits, where it is the losses' network.
    """

    def __init__(
        self, G: nn.Module, read: Read | None = None, names: Sequence[str] | None = None, *, n: int = 10_000,
        held: Sequence[str] | None = None, statistics: Statistics | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.G, self.seed, self.statistics = G, seed, statistics or statistics_for(G)
        self.reader = reader_of(read, names, like=G.w_avg)
        self.gradient_reader = reader_of(read, names, like=G.w_avg, probabilities=False)
        self.gradient_samples = draw_samples(G, self.gradient_reader, n=n, seed=seed)
        self.samples = self.gradient_samples
        if read is None:
            binary = torch.tensor([name in BINARY_NAMES for name in self.reader.names])
            y = self.samples.readings
            self.samples = Samples(self.samples.w, torch.where(binary, y.sigmoid(), y), self.samples.names)
        known = [name for name in MAIN_NAMES if name in self.reader.names]
        self.held = tuple(held or known or self.reader.names)
        self._effects: dict[Edit, Tensor] = {}

    @cached_property
    def w_regression(self) -> dict[str, Direction]:
        """Of all attributes together."""
        return fit_directions(self.samples.w, self.samples.readings, list(self.samples.names))

    @cached_property
    def pn_regression(self) -> dict[str, PnDirection]:
        """Of all attributes together."""
        return fit_pn_directions(self.samples, self.statistics)

    @cached_property
    def components(self) -> list[Edit]:
        """GANSpace's."""
        return list(find_components(self.G, CANDIDATES, statistics=self.statistics).values())

    @cached_property
    def eigenvectors(self) -> list[Edit]:
        """SeFa's."""
        return list(factorize(self.G, CANDIDATES, statistics=self.statistics).values())

    @cached_property
    def flow(self) -> ConditionalFlow:
        """StyleFlow's, conditioned on the held attributes."""
        return train_flow(self.samples, self.held, seed=self.seed)

    def chosen(self, edits: Sequence[Direction | StyleDirection], name: str, strength: float) -> Edit:
        """The one of ``edits`` that is about an attribute, forwards, under the attribute's name.

        Unsupervised directions have no names, and their user looks through them. Here the reader does: of those that
        move the attribute at least half as far as the one that moves it farthest, it takes the one that moves the
        others least for it.
        """
        k = self.reader.column(name)
        effects = torch.stack([self._effect(edit, strength) for edit in edits]).abs()
        others = torch.arange(effects.shape[1]) != k
        impurity = effects[:, others].mean(1) / effects[:, k].clamp(min=1e-6)
        best = int(impurity.masked_fill(effects[:, k] < effects[:, k].max() / 2, torch.inf).argmin())
        return _turned(edits[best], name, float(self._effect(edits[best], strength)[k].sign()))

    def _effect(self, edit: Edit, strength: float) -> Tensor:
        if edit not in self._effects:
            probe = {"samples": self.samples, "n": PROBES, "strength": strength}
            self._effects[edit] = measure_effect(edit, self.G, self.reader, **probe).mean
        return self._effects[edit]


def _turned(edit: Direction | StyleDirection, name: str, sign: float) -> Edit:
    source = f"{edit.source}, chosen for {name}"
    if isinstance(edit, Direction):
        return replace(edit, name=name, vector=sign * edit.vector, source=source)
    return replace(edit, name=name, shifts=tuple(sign * s for s in edit.shifts), source=source)


@dataclass(frozen=True)
class Way:
    """One way to find an edit. paper: its name or what it is. space: in which it moves. find: from the evidence and the
    name of an attribute to the edit, before it is calibrated."""

    name: str
    paper: str
    space: str
    find: Callable[[Evidence, str], Edit]


def _boundary(evidence: Evidence, name: str, *, held: Sequence[str] = ()) -> Edit:
    return find_boundaries(evidence.samples, [name], held=held)[name]


def _channel(evidence: Evidence, name: str) -> Edit:
    G, known = evidence.G, {"statistics": evidence.statistics}
    ranked = rank_channels(G, evidence.samples, name, count=CANDIDATES, **known)
    return evidence.chosen([channel_edit(G, channel, name, **known) for channel in ranked], name, strength=5.0)


def _flow(evidence: Evidence, name: str) -> Edit:
    return flow_edit(evidence.flow, name, evidence.G, evidence.reader)


def _learned(evidence: Evidence, name: str, *, space: str) -> Edit:
    samples, known = evidence.gradient_samples[:FIRST], {"statistics": evidence.statistics, "seed": evidence.seed}
    loss = EditLoss()
    if name in BINARY_NAMES:
        # There are no half glasses: a target between the two classes is met by pictures that nothing is to be seen in.
        y = samples.of(name)
        switch = float((y[y > 0].mean() - y[y <= 0].mean()) / y.std())
        loss = EditLoss(strengths=(0.9 * switch, switch))
    return learn_edit(evidence.G, name, evidence.gradient_reader, loss=loss, space=space, samples=samples, **known)


def _corrected(evidence: Evidence, name: str) -> Edit:
    # The base is calibrated first: a correction brings back what moved, whatever the strength was called.
    base = find_edit(evidence, "PN regression", name)
    samples, known = evidence.gradient_samples[:FIRST], {"statistics": evidence.statistics}
    return correct(base, evidence.G, evidence.gradient_reader, samples=samples, **known)


def _sparse(evidence: Evidence, name: str) -> Edit:
    # Learned for all attributes at once in hours of training, so they are taken from the shipped networks.
    known = sparse_edits_for(evidence.G)
    if name not in known:
        raise ValueError(f"attribute: expected one of the shipped two branches ({', '.join(known)}), got {name!r}")
    return known[name]


WAYS: Mapping[str, Way] = {
    way.name: way
    for way in (
        Way("W regression", "linear regression", "W", lambda e, name: e.w_regression[name]),
        Way("PN regression", "ridge regression in PN of II2S", "PN", lambda e, name: e.pn_regression[name]),
        Way("InterFaceGAN", "Shen et al., arXiv 1907.10786", "W", _boundary),
        Way("InterFaceGAN, conditional", "Shen et al., arXiv 1907.10786", "W",
            lambda e, name: _boundary(e, name, held=[other for other in e.held if other != name])),
        Way("GANSpace", "Härkönen et al., arXiv 2004.02546", "W",
            lambda e, name: e.chosen(e.components, name, strength=2.0)),
        Way("SeFa", "Shen and Zhou, arXiv 2007.06600", "W",
            lambda e, name: e.chosen(e.eigenvectors, name, strength=2.0)),
        Way("StyleSpace", "Wu et al., arXiv 2011.12799", "S", _channel),
        Way("StyleFlow", "Abdal et al., arXiv 2008.02401", "W+", _flow),
        Way("learned in W+", "latentlab", "W+", lambda e, name: _learned(e, name, space="W+")),
        Way("learned in S", "latentlab", "S", lambda e, name: _learned(e, name, space="S")),
        Way("PN, corrected", "latentlab", "S", _corrected),
        Way("sparse (two branches)", "Yin et al., arXiv 2204.12530", "W+", _sparse),
    )
}  # fmt: skip


def file_stem(way: str, name: str) -> str:
    """Beginning of the names of the files about the edit of an attribute that was found in one way."""
    return f"{name}.{way.replace(' ', '-').translate(str.maketrans('', '', ',()'))}"


def find_edit(evidence: Evidence, way: str, name: str) -> Edit:
    """The edit of an attribute by one of ``WAYS``, calibrated: strength 1 moves the reading by one standard deviation.

    ``ValueError`` for an unknown way, and where the way's edit does not move the attribute so far at any strength;
    ``MissingWeights`` where a way needs weights that are not shipped.
    """
    if way not in WAYS:
        raise ValueError(f"way: expected one of {', '.join(WAYS)}; got {way!r}")
    evidence.reader.column(name)
    found = WAYS[way].find(evidence, name)
    if isinstance(found, Corrected):  # of a calibrated edit
        return found
    return calibrate(found, evidence.G, evidence.reader, samples=evidence.samples, limit=LIMIT)
