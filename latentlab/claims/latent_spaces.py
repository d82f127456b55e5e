"""Claims about latent spaces: II2S (arXiv 2012.09036), section 3, and LSAP (arXiv 2209.12746), section 3.3."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from latentlab.claims.finding import Claim, Finding, verdict
from latentlab.evaluation.intervals import confidence_interval
from latentlab.faces import render, sample_factors
from latentlab.judges.attributes import load_attribute_judge
from latentlab.losses.attributes import load_attributes
from latentlab.metrics import fid
from latentlab.normality import dip, henze_zirkler, level_and_power, mardia, marginals, principal, sample
from latentlab.seeds import stream
from latentlab.spaces import p_to_w, s_to_w, statistics_for, w_to_p, w_to_s
from latentlab.stylegan.generator import Generator

TESTS = ("mardia_skewness", "mardia_kurtosis", "axes", "henze_zirkler_16")
SAMPLERS = ("mapping", "pn", "w")


@torch.no_grad()
def _codes(G: nn.Module, n: int, use: str) -> Float[Tensor, "n dim"]:
    """Codes of W without truncation, from another random stream than those of the stored statistics."""
    return G.mapping(torch.randn(n, G.z_dim, generator=stream(0, "claims", use)).to(G.w_avg))


def _skewness(G: Generator, full: bool) -> Finding:
    """Median and interquartile range over dimensions of |skewness| in W and P."""
    n = 100_000 if full else 20_000
    shallow = Generator(replace(G.config, mapping_layers=2), seed=0)
    worlds = {"": G, "untrained_": Generator(G.config, seed=0), "untrained_2_layers_": shallow}
    codes = {name: _codes(world.to(G.w_avg), n, "II2S-1") for name, world in worlds.items()}
    codes["normal_"] = p_to_w(sample("normal", n, G.w_dim))  # what the leaky ReLU alone does to N(0, I)
    found, intervals = {}, {}
    for name, w in codes.items():
        for space, x in {"w": w, "p": w_to_p(w)}.items():
            skewness = np.abs(stats.skew(x.double().cpu().numpy()))
            found[f"{name}{space}_median"] = float(np.median(skewness))
            found[f"{name}{space}_spread"] = float(stats.iqr(skewness))
            intervals[f"{name}{space}_median"] = confidence_interval(skewness, np.median)
    measured = {k: v for k, v in found.items() if k[:2] in ("w_", "p_")}
    controls = {k: v for k, v in found.items() if k not in measured}
    return Finding(measured, intervals, controls, {"codes": n, "intervals": "bootstrap over dimensions"})


def _judge_skewness(f: Finding) -> tuple[str, str]:
    """Bulmer's rule (1979): skewness below 1/2 is nearly symmetric, above 1 heavy, which the paper claims for W."""
    (low, _), (_, high) = f.intervals["w_median"], f.intervals["p_median"]
    same = f.controls["untrained_w_median"] > 0.5 > f.controls["untrained_p_median"]
    remark = "An untrained generator shows the same: the architecture does it, not what was learned" * same
    parts = {"W skewed (> 1/2)": low > 0.5, "heavily (> 1)": low > 1, "P nearly symmetric (< 1/2)": high < 0.5}
    return verdict(parts, {}, remark)


def _normality(G: Generator, full: bool) -> Finding:
    """Fraction of sets of 1000 codes of P that each test rejects at 5 %, and the same for normal samples."""
    n, d, repeats = 1000, G.w_dim, 100 if full else 5

    def tests(x: Float[Tensor, "n d"]) -> list:
        return [*mardia(x), marginals(x, "principal"), henze_zirkler(principal(x, min(16, d)))]

    clouds = w_to_p(_codes(G, n * repeats, "II2S-2").double().cpu()).split(n)
    told = dict(zip(TESTS, np.array([[t.rejects() for t in tests(x)] for x in clouds]).T, strict=True))
    wilson = {k: stats.binomtest(int(t.sum()), repeats).proportion_ci(method="wilson") for k, t in told.items()}
    level = level_and_power(tests, ["normal"], [d], n, repeats).rejected
    some = repeats // 5
    trap = level_and_power(lambda x: [henze_zirkler(x), *mardia(x, calibrate=False)], ["normal", "t3"], [512], n, some)
    trap = trap.set_index(["test", "family"]).textbook
    controls = {f"normal_{name}": float(share) for name, share in zip(TESTS, level, strict=True)} | {
        f"henze_zirkler_all_{d}": float(np.mean([henze_zirkler(x).textbook_p <= 0.05 for x in clouds[:some]])),
        "t3_henze_zirkler_512": float(trap["Henze-Zirkler", "t3"]),
        "normal_mardia_kurtosis_512": float(trap["Mardia's kurtosis", "normal"]),
    }
    return Finding({k: float(t.mean()) for k, t in told.items()}, {k: [float(v) for v in i] for k, i in wilson.items()},
                   controls, {"codes": n, "dimensions": d, "repeats": repeats})  # fmt: skip


def _judge_normality(f: Finding) -> tuple[str, str]:
    """A test rejects P if it rejects most sets of codes (lower end of the interval above 1/2). It must reject at most a
    fifth of the normal samples."""
    blind = f.controls["t3_henze_zirkler_512"] < 0.5 < f.controls["normal_mardia_kurtosis_512"]
    remark = ("With n = 1000 in d = 512, the paper's case, Henze-Zirkler does not see heavy tails of independent "
              "coordinates (Student's t), and by the textbook Mardia's kurtosis rejects a normal") * blind  # fmt: skip
    level = {f"{name} keeps its level": f.controls[f"normal_{name}"] <= 0.2 for name in TESTS}
    return verdict({f"{name} rejects P": f.intervals[name][0] > 0.5 for name in TESTS}, level, remark)


def _modes(G: Generator, full: bool) -> Finding:
    """Fraction of principal axes that pass as normal, their distance from normal, and the dip test of each."""
    n, repeats, many = 1000, 50 if full else 5, 20_000 if full else 5_000
    w, more = (_codes(G, k, f"II2S-3 {k}").double().cpu() for k in (n * repeats, many))
    clouds = {"p": w_to_p(w).split(n), "w": w.split(n)}
    clouds |= {family: [sample(family, n, G.w_dim, seed=i) for i in range(repeats)] for family in ("normal", "uniform")}
    found, intervals = {}, {}
    for name, samples in clouds.items():
        passing = [float(marginals(x, "principal").table.passes.mean()) for x in samples]
        half = stats.t.ppf(0.975, repeats - 1) * stats.sem(passing)
        found[f"{name}_passing"] = mean = float(np.mean(passing))
        intervals[f"{name}_passing"] = [mean - float(half), mean + float(half)]
    axes = {name: principal(x).T for name, x in {"p": w_to_p(more), "w": more}.items()}
    for name, x in axes.items():
        found[f"{name}_distance"] = float(np.median([stats.kstest(axis, "norm").statistic for axis in x]))
    try:
        found["p_dip_least_q"] = float(stats.false_discovery_control([dip(axis).p_value for axis in axes["p"]]).min())
        found["two_modes_dip_p"] = float(dip(sample("mixture", many, 1)[:, 0]).p_value)
    except ImportError:
        pass  # the rule reports that diptest is missing
    measured = {k: v for k, v in found.items() if k.startswith("p_")}
    controls = {k: v for k, v in found.items() if k not in measured}
    return Finding(measured, intervals, controls, {"codes": n, "repeats": repeats, "codes for distance and dip": many})


def _judge_modes(f: Finding) -> tuple[str, str]:
    """Close to normal: the distribution function of the median axis differs from the normal's by less than 0.05. One
    mode: the dip test rejects no axis at a false discovery rate of 5 %; without diptest this counts as not shown."""
    parts = {"one mode on every axis": f.measured.get("p_dip_least_q", 0) > 0.05,
             "median axis within 0.05 of normal": f.measured["p_distance"] < 0.05,
             "more axes of P pass than of W": f.intervals["p_passing"][0] > f.intervals["w_passing"][1]}  # fmt: skip
    remark = f"{f.measured['p_passing']:.0%} of P's axes pass, of a normal's {f.controls['normal_passing']:.0%}"
    remark += "; no dip without the package diptest" * ("two_modes_dip_p" not in f.controls)
    return verdict(parts, {"the dip test sees two modes": f.controls.get("two_modes_dip_p", 0) < 0.01}, remark)


def _whiteness(G: Generator, full: bool) -> Finding:
    """Moments of new codes in PN compared with 0 and I, as Bonferroni-corrected p-values, and |v|^2 compared with
    scipy's Mahalanobis distance."""
    n, s = 200_000 if full else 20_000, statistics_for(G)
    w = _codes(G, n, "II2S-4").double().cpu()
    measured, settings = {}, {"codes": n, "codes of the statistics": s.n}
    for name, t in {"": s, "second_": replace(s, floor=s.floor / 1e4)}.items():
        kept, v, error = t.eigenvalues == t.floored, t.w_to_pn(w), 1 / n + 1 / s.n
        second, fourth = v.T @ v / n, v.square().T @ v.square() / n
        # The variance is lambda / floored on axes that the floor raises, and 1 on the others.
        off = second - torch.diag(t.eigenvalues / t.floored)
        z = (off / ((fourth - second.square()) * error).sqrt()).abs()
        pairs = torch.ones_like(z).triu(1).bool()
        z_mean = (v.mean(0) / (v.var(0) * error).sqrt()).abs()
        for what, scores in {"mean": z_mean, "variance": z.diagonal()[kept], "correlation": z[pairs]}.items():
            measured[f"{name}{what}_p"] = min(1.0, float(2 * stats.norm.sf(float(scores.max())) * len(scores)))
        measured[f"{name}variance_error"] = float(off.diagonal()[kept].abs().max())
        measured[f"{name}correlation_max"] = float(v.T.corrcoef()[pairs].abs().max())
        inverse = np.linalg.inv(((t.eigenvectors * t.floored) @ t.eigenvectors.T).numpy())
        distance = cdist(w_to_p(w[:1000]).numpy(), t.mean[None].numpy(), "mahalanobis", VI=inverse)[:, 0]
        measured[f"{name}norm_error"] = float(np.abs(v[:1000].square().sum(1).numpy() / distance**2 - 1).max())
        settings |= {f"{name}floor": t.floor, f"{name}floored_axes": int((~kept).sum())}
    return Finding(measured, {}, {}, settings)


def _judge_whiteness(f: Finding) -> tuple[str, str]:
    """Moments agree within the sampling error: corrected p above 1 % at both floors. Norms agree to a relative 1e-4."""
    names = {"mean": "mean 0", "variance": "variance 1 above the floor", "correlation": "correlation 0"}
    parts = {says: min(f.measured[f"{k}_p"], f.measured[f"second_{k}_p"]) > 0.01 for k, says in names.items()}
    norms = max(f.measured["norm_error"], f.measured["second_norm_error"])
    remark = f"The floor leaves {f.settings['floored_axes']} axes with less variance than 1"
    return verdict(parts | {"|v|^2 is Mahalanobis' distance": norms < 1e-4}, {}, remark)


@torch.no_grad()
def _scale(G: Generator, full: bool) -> Finding:
    """Largest change of any pixel, in [-1, 1], when one layer's style is multiplied by a, in float64.

    For a = 2 also with codes of W+ found by least squares (Property 3.3), in layers whose code no toRGB reads ("own")
    and in the other ones ("shared").
    """
    G = copy.deepcopy(G).double()
    w_plus = G.broadcast(_codes(G, 16 if full else 2, "LSAP-1"))
    styles, image = G.styles(w_plus), G.synthesis(w_plus)
    convs, rgbs = ([i for i, layer in enumerate(G.style_layers) if layer.kind == kind] for kind in ("conv", "torgb"))

    def change(layers: Sequence[int], *factors: float) -> list[float]:
        scaled = ([s * a if i == k else s for i, s in enumerate(styles)] for k in layers for a in factors)
        return [float((G.synthesis(None, styles=s) - image).abs().max()) for s in scaled]

    s = [styles[i] for i in convs]
    moved = s_to_w([2 * x for x in s], G)
    read = {G.style_layers[i].w_index for i in rgbs}
    pictures = {}
    for name, layers in {"own": set(range(len(s))) - read, "shared": set(range(len(s))) & read}.items():
        code = w_plus.clone()
        code[:, list(layers)] = moved[:, list(layers)]
        pictures[f"{name}_codes"] = float((G.synthesis(code) - image).abs().max())
    residual = [(y / 2 - x).norm(dim=1) / x.norm(dim=1) for x, y in zip(s, w_to_s(moved, G, torgb=False), strict=True)]
    measured = {"convolutions_positive": max(change(convs, *((0.1, 0.5, 2, 10) if full else (0.5, 2)))),
                "convolutions_negative": min(change(convs, -1)), "torgb": min(change(rgbs, 2)),
                "least_squares_residual": float(torch.stack(residual).max()), **pictures}  # fmt: skip
    return Finding(measured, {}, {}, {"codes": len(image), "a": "0.1 to 10, -1; toRGB and W+: 2"})


def _judge_scale(f: Finding) -> tuple[str, str]:
    """Images count as equal if no pixel changes by 1e-3 of its range; the 1e-8 in demodulation causes less."""
    same = {k: v < 2e-3 for k, v in f.measured.items()}
    return verdict({
        "a > 0 on convolutions": same["convolutions_positive"],
        "a < 0": same["convolutions_negative"],
        "toRGB": same["torgb"],
        "other codes of W+, the same picture (Property 3.3)": same["least_squares_residual"] and same["own_codes"],
        "also where toRGB reads the code": same["shared_codes"],
    })  # fmt: skip


@torch.inference_mode()
def _read(batches: Iterable[Tensor], networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """The last feature map of each network, averaged over positions, (N, C)."""
    read = [{name: net.features(x)[-1].mean((2, 3)) for name, net in networks.items()} for x in batches]
    return {name: torch.cat([features[name] for features in read]).cpu() for name in networks}


def _samplers(G: Generator, full: bool) -> Finding:
    """FID between renders and three samplers on features of two networks, and its ratio to the mapping network's."""
    n, groups = (10_000, 10) if full else (1_000, 5)
    device, s = G.w_avg.device, statistics_for(G)
    networks = {"judge": load_attribute_judge(device=device), "losses": load_attributes(device=device)}
    fast = copy.deepcopy(G).to(memory_format=torch.channels_last)
    codes = dict(zip(SAMPLERS, (_codes(G, n, "II2S-5"), s.sample(n, "pn"), s.sample(n, "w")), strict=True))
    eps = torch.randn(few := max(n // 5, 400), G.w_dim, generator=stream(0, "claims", "II2S-5 diagonal"))
    codes["w_diagonal"] = (s.w_mean + eps * s.w_covariance.diagonal().sqrt()).float()  # without correlations
    images = {k: (fast.synthesis(G.broadcast(w.to(device))) for w in v.split(40)) for k, v in codes.items()}
    images["renders"] = (
        render(sample_factors(100, seed=20, start=i).to(device), resolution=G.resolution) for i in range(0, n, 100)
    )
    sets = {name: _read(batches, networks) for name, batches in images.items()}
    measured, intervals, controls = {}, {}, {}
    for network in networks:
        x = {name: features[network] for name, features in sets.items()}
        group = torch.arange(n) * groups // n
        keeps = [group >= 0, *(group != g for g in range(groups))]  # all groups, then all but one
        d = np.array([[fid(x[name][keep], x["renders"][keep]) for name in SAMPLERS] for keep in keeps])
        ratios = d[:, 1:] / d[:, :1]
        # Jackknife: standard error from leaving out one group of images at a time
        half = stats.t.ppf(0.975, groups - 1) * ratios[1:].std(0) * (groups - 1) ** 0.5
        measured |= {f"{network}_fid_{name}": float(v) for name, v in zip(SAMPLERS, d[0], strict=True)}
        for name, ratio, h in zip(SAMPLERS[1:], ratios[0], half, strict=True):
            measured[f"{network}_{name}_ratio"] = float(ratio)
            intervals[f"{network}_{name}_ratio"] = [float(ratio - h), float(ratio + h)]
        controls |= {f"{network}_fid_{name}_halves": fid(*x[name].chunk(2)) for name in ("renders", "mapping")}
        controls |= {f"{network}_fid_{name}_to_mapping": fid(x[name], x["mapping"]) for name in SAMPLERS[1:]}
        bad, good = (fid(x[name][:few], x["renders"][:few]) for name in ("w_diagonal", "mapping"))
        controls[f"{network}_w_diagonal_ratio"] = bad / good
    return Finding(measured, intervals, controls, {"images": n, "resolution": G.resolution, "jackknife groups": groups})


def _judge_samplers(f: Finding) -> tuple[str, str]:
    """Good: FID at most 1.5 times that of the mapping network (upper end of the interval). Bad: at least twice (lower
    end). A normal in W without its correlations must be bad, or the features are not sensitive enough."""
    pn, w = ([f.intervals[f"{network}_{k}_ratio"] for network in ("judge", "losses")] for k in ("pn", "w"))
    parts = {"PN within 1.5 of the mapping's FID": all(high <= 1.5 for _, high in pn)}
    blind = [f.controls[f"{network}_w_diagonal_ratio"] for network in ("judge", "losses")]
    remark = f"A normal in W without its correlations has {min(blind):.1f} to {max(blind):.1f} times the mapping's FID"
    parts["a normal in W beyond 2"] = all(low >= 2 for low, _ in w)
    return verdict(parts, {"FID sees a bad sampler": min(blind) >= 2}, remark)


CLAIMS = tuple(
    Claim(id, "LSAP, section 3.3" if id == "LSAP-1" else "II2S, section 3", *rest)
    for id, *rest in (
        ("II2S-1", "Marginals of W are skewed, those of P nearly symmetric.",
         "Fig. 1: W heavily skewed, P Gaussian-like", _skewness, _judge_skewness),
        ("II2S-2", "P is not multivariate normal.", "Henze-Zirkler and Mardia reject at 5 %, n = 1000, d = 512",
         _normality, _judge_normality),
        ("II2S-3", "P has one mode and is close to normal along its principal axes.",
         "dip test keeps one mode; 219 of 512 marginals pass at 5 %", _modes, _judge_modes),
        ("II2S-4", "PN has mean 0, variance 1, no correlation; its squared norm is Mahalanobis' distance.", "Eq. 2-5",
         _whiteness, _judge_whiteness),
        ("II2S-5", "N(0, I) in PN makes good images, a normal fitted in W does not.",
         "FID 2.81 (mapping), 3.28 (PN), 76.63 (W)", _samplers, _judge_samplers),
        ("LSAP-1", "Codes of S are scale-free in every layer; S^N removes the scale.",
         "Property 3.1, for all real a and all layers", _scale, _judge_scale),
    )
)  # fmt: skip
